"""Message references: 256 of them, and what each stands for until no report can mean it any more.

A reference comes round again, and a radio may report an old message when its officer opens it,
hours later. Rule: a report never speaks for a newer message. So a reference rests: long while its
last report is out, a while when that has come, for the copies of it. While none is free, messages
go out that ask for no report. Pure: the caller passes the time.
Source: reference radio-protocols, 2.2; issue: message references that wrap.
"""

from __future__ import annotations

from gateway.messages import AckState, DeliveryAck, Value

REFERENCES = 256
UNREPORTED_MS = 24 * 3_600_000
"""A message that was not reported may be opened, and reported, until the shift is long over."""
REPORTED_MS = 600_000
TRACKED_MOST = 128
"""Messages of one terminal whose parts are kept apart: twice what may wait for it."""


class Sent(Value, frozen=True):
    """One PDU that went out. check: of the answer, or the message's id. piece: where one part of
    the answer took several PDUs. wanted: the reports that it asked for."""

    check: str
    part: int
    piece: int
    pid: int
    coding: int
    wanted: int


class References:
    """Which reference the next message has, and whose one was. first: where to begin: not where a
    life before this one did."""

    def __init__(self, first: int = 0) -> None:
        self._next = first % REFERENCES
        self._sent: dict[int, Sent] = {}
        self._until_ms = [0] * REFERENCES
        self._now_ms = 0

    def tick(self, now_ms: int) -> None:
        """The time that it is. What was sent before any was known rests from now on."""
        if not self._now_ms:
            self._until_ms = [until and until + now_ms for until in self._until_ms]
        self._now_ms = now_ms

    def take(self, sent: Sent) -> int | None:
        """A reference of its own for a message that is to be reported; None when none is free."""
        reference = self._free()
        if reference is not None:
            self._sent[reference] = sent
            self._until_ms[reference] = self._now_ms + UNREPORTED_MS
        return reference

    def any(self) -> int:
        """One for a message that asks for no report: nobody's, if there is one."""
        reference = self._free()
        if reference is None:
            self._next = (self._next + 1) % REFERENCES
            return (self._next - 1) % REFERENCES
        self._sent.pop(reference, None)
        return reference

    def of(self, reference: int) -> Sent | None:
        return self._sent.get(reference)

    def settle(self, reference: int) -> None:
        """Its last report came."""
        self._until_ms[reference] = self._now_ms + REPORTED_MS

    def _free(self) -> int | None:
        for step in range(REFERENCES):
            reference = (self._next + step) % REFERENCES
            if self._until_ms[reference] <= self._now_ms:
                self._next = (reference + 1) % REFERENCES
                return reference
        return None


class Reported:
    """How much of each message was reported. A part is delivered when all its pieces are; the
    message is read when all of it is: what was opened first may be the least of it."""

    def __init__(self) -> None:
        self._messages: dict[str, dict[tuple[int, int], AckState | None]] = {}

    def sent(self, check: str, pieces: list[int]) -> None:
        """It goes out, perhaps again. pieces: how many PDUs each part takes."""
        every = [(part, n) for part, count in enumerate(pieces, 1) for n in range(count)]
        known = self._messages.pop(check, {})
        self._messages[check] = known if list(known) == every else dict.fromkeys(every)
        while len(self._messages) > TRACKED_MOST:
            del self._messages[next(iter(self._messages))]

    def heard(self, sent: Sent, state: AckState) -> list[DeliveryAck]:
        """A report came: what that makes of the part, or of the whole."""
        message = self._messages.get(sent.check)
        if message is None or (sent.part, sent.piece) not in message:
            return []
        if message[sent.part, sent.piece] is not AckState.READ:
            message[sent.part, sent.piece] = state
        if all(each is AckState.READ for each in message.values()):
            return [
                DeliveryAck(check=sent.check, part=part, state=AckState.READ)
                for part in sorted({part for part, _ in message})
            ]
        if all(each for (part, _), each in message.items() if part == sent.part):
            return [DeliveryAck(check=sent.check, part=sent.part, state=AckState.DELIVERED)]
        return []
