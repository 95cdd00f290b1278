"""The dialogue with a TETRA radio on its PEI: sans-IO, the caller passes the time.

The problem: the radio may babble, be half set up, restart, forget what was registered, be busy, or
say nothing; what it says of a message comes late, twice or never; and all of it on one wire on
which an emergency may come at any moment.

Rules.
1. A message is sent when the radio has said so (`+CMGS: i,4,ref`), and not before. Each that was
   submitted ends exactly once: sent, or with a reason.
2. One message at a time is with the radio. The more urgent one goes first, whoever came before.
3. A word of the air that may be of an earlier message is never taken for this one's.
4. There is always a next moment at which the session acts by itself: nothing waits for a radio.
5. What came over the air is handed on at any stage, also while the radio is still being set up.
6. Services are registered again after whatever may have cost them. Nothing is ever reset (ATZ).
Source: reference radio-protocols, 1.1 to 1.3.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from enum import StrEnum

import msgspec

from adapters.links.pei_dialects import Dialect
from adapters.links.tetra_pei import (
    ATTENTION,
    Accepted,
    Event,
    Final,
    Prompt,
    Response,
    Sds,
    SendResult,
    TetraPei,
    Unreadable,
    Unsolicited,
)

END = b"\r\n"
GO = b"\x1a"
ESC = b"\x1b"

SYNC_EVERY_S = 1.0
SYNC_WITHIN_S = 20.0
"""A radio that has not said OK to AT by then is given up: its port is opened anew."""
QUIET_S = 0.3
"""So long without a result after the OK: what was left from before has come."""
QUIET_WITHIN_S = 3.0
ANSWER_WITHIN_S = 5.0
TAKE_WITHIN_S = 10.0
"""From the command that sends a message to its result; not yet that of the air."""
HANGS_MOST = 3
"""Commands without a result, in one setting-up, after which it is given up."""
AGAIN_S = 1.0
"""Before a service that met a busy radio is registered once more, and after a failure on air."""
BUSY_S = (0.5, 1.0, 2.0)
"""Before each further attempt at a message that met a busy radio or network."""
STACK_FULL_S = 2.0
HOLD_S = 5.0
"""Transmit inhibit: so long nothing is sent, then one message tries."""
OWED_S = 15.0
"""So long after it was given up a message may still be spoken of. A radio that calls every message
by the same figure is given no other one meanwhile: its word might be of either."""
RENEW_APART_S = 10.0
"""At least, between two registrations that the radio's own words bring about."""

SENT, FAILED = 4, 5
ALREADY, TABLE_FULL = 38, 39
INHIBITED = 41
BUSY = frozenset((0, 14, 30, 31, 42))
"""Network or radio cannot take it now: back off and come again."""
OUT_OF_STEP = frozenset((20, 34, 35, 36, 37))
"""Command and payload did not meet, or the stack is full: synchronise, then once more."""
UNREGISTERED = frozenset((3, 35, 36))
"""What a radio says of messages when nothing is registered."""
_RANGE = re.compile(r"\(([0-9]{1,5})-([0-9]{1,5})\)")
_FIRST = re.compile(r"[0-9]{1,3}")
_ON_AIR = (None, 1, 4, 5)
"""+CREG: home 1, visited 5; not said, or unknown (4): it is tried."""


class Stage(StrEnum):
    SYNC = "sync"
    QUIET = "quiet"
    SETUP = "setup"
    REGISTER = "register"
    READY = "ready"
    OVER = "over"


class Part(msgspec.Struct, kw_only=True):
    """One message as the radio takes it. urgency: the least goes first. until_s: after this it is
    not begun any more."""

    token: int
    called: str
    service: int
    length_bits: int
    digits: str
    urgency: int
    until_s: float
    tries: int = 0
    not_before_s: float = 0.0
    n: int = 0
    """In the order of submission."""
    instance: int | None = None
    given_up: bool = False
    """Nobody waits for it any more, but the radio has it."""


class Ended(msgspec.Struct, frozen=True):
    """fault: empty when it was sent."""

    token: int
    fault: str


class _Owed(msgspec.Struct, frozen=True):
    """A message that was given up, of which the radio may yet speak."""

    token: int
    instance: int | None
    until_s: float


class _Command(msgspec.Struct, frozen=True):
    text: str
    until_s: float
    then: Callable[[Final | None, float], None]


class PeiSession:
    """One opening of the port. After each call: `take` what is to be written, and look at `heard`,
    `ended`, `notes`, `broken`. Lists are the caller's to clear."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        services: tuple[str, ...] = (),
        max_bits: int = 668,
        keep_alive_s: float = 20.0,
        renew_s: float = 300.0,
        air_s: float = 15.0,
        most: int = 200,
    ) -> None:
        self._dialect = dialect
        self._services = services or dialect.services
        self._keep_alive_s = keep_alive_s
        self._renew_s = renew_s
        self._air_s = air_s
        self._most = most
        self._reader = TetraPei()
        self.max_bits = max_bits
        self.heard: list[Sds] = []
        self.ended: list[Ended] = []
        self.notes: list[str] = []
        """What could not be read or was refused: words of messages.FRAME_REASONS, or a service."""
        self.broken = ""
        """Why this opening is over; empty while it is not."""
        self.ready = False
        """Set up once; it takes messages, or will when it is in step again."""
        self.alive = False
        """The radio said something that can be read since this was last cleared."""
        self.refused: set[str] = set()
        """Services that the radio does not give us."""
        self.on_network: int | None = None
        """+CREG, in the meaning of TETRA; None: not said."""
        self.mode: int | None = None
        """+CTOM."""
        self._out = bytearray()
        self.stage = Stage.SYNC
        self._until_s = 0.0
        self._retry_s = 0.0
        self._quiet_s = 0.0
        self._anew = True
        self._hangs = 0
        self._disturbed = False
        self._todo: deque[str] = deque()
        self._service_tries = 0
        self._pause_s: float | None = None
        self._command: _Command | None = None
        self._last_s = 0.0
        self._renew_at_s = 0.0
        self._renewed_s = float("-inf")
        self._queue: list[Part] = []
        self._n = 0
        self._service = 0
        self._flight: Part | None = None
        self._payload = b""
        self._payload_s = 0.0
        self._air_until_s: float | None = None
        self._said: SendResult | None = None
        self._instance: int | None = None
        self._tells_apart = False
        """It has called two messages by different figures."""
        self._last_said: SendResult | None = None
        self._numbers_them = False
        self._owed: deque[_Owed] = deque(maxlen=16)
        self._held_until_s = 0.0

    # ----------------------------------------------------------------- what the caller does

    def start(self, now_s: float) -> None:
        """The port is open."""
        self._until_s = now_s + SYNC_WITHIN_S
        self._last_s = now_s
        self._write(END)
        self._say_at(now_s)

    def feed(self, data: bytes, now_s: float) -> int:
        """Bytes came; how many events they made."""
        events = self._reader.feed(data, now_s)
        for event in events:
            if self.stage is not Stage.OVER:
                self._take(event, now_s)
        self.tick(now_s)
        return len(events)

    def tick(self, now_s: float) -> None:
        """Do what is due. May be called at any time; must be at `next_at_s`."""
        self._drop_late(now_s)
        for _ in range(8):  # one thing may make the next one due; never without an end
            if self.stage is Stage.OVER or now_s < self.next_at_s:
                break
            self._act(now_s)

    def take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def submit(self, part: Part, now_s: float) -> None:
        """It will end, once. Too many: the least urgent goes, the newest of them first."""
        self._n += 1
        part.n = self._n
        if self.stage is Stage.OVER:
            self.ended.append(Ended(part.token, "link down"))
        elif part.length_bits > self.max_bits:
            self.ended.append(Ended(part.token, "too long for this radio"))
        elif not part.called.isdecimal() or not _is_hex(part.digits):
            self.ended.append(Ended(part.token, "not to be sent"))
        else:
            self._queue.append(part)
            if len(self._queue) > self._most:
                least = max(self._queue, key=_rank)
                self._queue.remove(least)
                self.ended.append(Ended(least.token, "full"))
        self.tick(now_s)

    def cancel(self, token: int, now_s: float) -> None:
        """Nobody waits for it any more: it is not begun, nor tried again."""
        for part in self._queue:
            if part.token == token:
                self._queue.remove(part)
                self.ended.append(Ended(token, "cancelled"))
                break
        flight = self._flight
        if flight is not None and flight.token == token and not flight.given_up:
            flight.given_up = True
            self.ended.append(Ended(token, "cancelled"))
        self.tick(now_s)

    def close(self, reason: str) -> None:
        """The port is gone, or is given up."""
        if self.stage is Stage.OVER:
            return
        self.stage, self.ready, self.broken = Stage.OVER, False, reason
        self._command = None
        flight, self._flight = self._flight, None
        for part in [*([flight] if flight is not None else []), *self._queue]:
            self._finish(part, "link down")
        self._queue.clear()

    @property
    def reachable(self) -> bool:
        """Whether a message that is submitted now may go out."""
        return self.ready and self.on_network in _ON_AIR

    @property
    def held(self) -> float:
        """Until when transmit inhibit holds everything, monotonic."""
        return self._held_until_s

    @property
    def waiting(self) -> int:
        return len(self._queue) + (self._flight is not None)

    @property
    def next_at_s(self) -> float:
        """When `tick` must come at the latest. Always a figure."""
        times = [part.until_s for part in self._queue]
        match self.stage:
            case Stage.SYNC:
                times += [self._retry_s, self._until_s]
            case Stage.QUIET:
                times += [self._quiet_s, self._until_s]
            case _:
                if self._command is not None:
                    times.append(self._command.until_s)
                    if self._payload:
                        times.append(self._payload_s)
                elif self._pause_s is not None:
                    times.append(self._pause_s)
                elif self._air_until_s is not None:
                    times.append(self._air_until_s)
                else:
                    times.append(self._idle_until_s())
        return min(times)

    def _idle_until_s(self) -> float:
        times = [self._last_s + self._keep_alive_s, self._renew_at_s]
        times += [self._may_begin_s(part) for part in self._queue]
        return min(times)

    def _may_begin_s(self, part: Part) -> float:
        times = [part.not_before_s, self._held_until_s]
        if not self._tells_apart:
            times += [owed.until_s for owed in self._owed if owed.token != part.token]
        return max(times)

    # ----------------------------------------------------------------- time

    def _act(self, now_s: float) -> None:
        match self.stage:
            case Stage.SYNC:
                if now_s >= self._until_s:
                    self.close("radio does not answer")
                elif now_s >= self._retry_s:
                    # From the second time on: should it still wait for a payload, that is over.
                    self._write(ESC + END)
                    self._say_at(now_s)
            case Stage.QUIET:
                if now_s >= min(self._quiet_s, self._until_s):
                    self._in_step(now_s)
            case _:
                self._act_in_step(now_s)

    def _act_in_step(self, now_s: float) -> None:
        command = self._command
        if command is not None:
            if self._payload and now_s >= self._payload_s:
                self._put_payload()  # it does not ask: it gets it all the same
            if now_s >= command.until_s:
                self._command = None
                command.then(None, now_s)
        elif self._pause_s is not None:
            if now_s >= self._pause_s:
                self._pause_s = None
                self._go_on(now_s)
        elif self._air_until_s is not None:
            if now_s >= self._air_until_s:
                self._unheard_of(now_s)
        elif now_s >= self._idle_until_s():
            self._idle(now_s)

    def _drop_late(self, now_s: float) -> None:
        late = [part for part in self._queue if now_s >= part.until_s]
        for part in late:
            self._queue.remove(part)
            self._finish(part, "too late")

    def _idle(self, now_s: float) -> None:
        """In step, and nothing is under way: what is most needed now."""
        if now_s >= self._renew_at_s:
            self._begin_setup(now_s)
        elif (part := self._most_urgent(now_s)) is not None:
            self._queue.remove(part)
            self._begin(part, now_s)
        elif now_s >= self._last_s + self._keep_alive_s:
            self._ask(self._dialect.keep_alive, now_s, self._kept_alive)

    def _most_urgent(self, now_s: float) -> Part | None:
        due = [part for part in self._queue if self._may_begin_s(part) <= now_s < part.until_s]
        return min(due, key=_rank, default=None)

    def _kept_alive(self, final: Final | None, now_s: float) -> None:
        if final is None:
            self._lost_it(now_s)

    def _lost_it(self, now_s: float) -> None:
        """It said nothing: it may have restarted, and then it has forgotten us."""
        self._anew = True
        self._synchronise(now_s)

    # ----------------------------------------------------------------- in step

    def _synchronise(self, now_s: float) -> None:
        self.stage = Stage.SYNC
        self._command, self._pause_s, self._service = None, None, 0
        self._payload = b""
        self._until_s = now_s + SYNC_WITHIN_S
        self._write(ESC + END)
        self._say_at(now_s)

    def _say_at(self, now_s: float) -> None:
        self._write(ATTENTION + END)
        self._reader.expect(ATTENTION.decode())
        self._retry_s = now_s + SYNC_EVERY_S

    def _in_step(self, now_s: float) -> None:
        if self._todo:
            # A command that hung was skipped; the rest of the setting-up goes on.
            self.stage = Stage.REGISTER if self._todo[0][0].isdecimal() else Stage.SETUP
            self._go_on(now_s)
        elif self._anew:
            self._begin_setup(now_s)
        else:
            self.stage = Stage.READY

    def _begin_setup(self, now_s: float) -> None:
        self.stage, self._anew, self._hangs = Stage.SETUP, False, 0
        self._disturbed = False
        self._service = 0
        identify = () if self.ready else self._dialect.identify
        self._todo = deque((*self._dialect.setup, *identify, *self._services))
        self.refused.clear()
        self._service_tries = 0
        self._go_on(now_s)

    def _go_on(self, now_s: float) -> None:
        """The next of what is to be set up; after the last one it is ready."""
        if self.stage is Stage.READY:
            return
        if not self._todo:
            self._set_up(now_s)
        elif self._todo[0][0].isdecimal():
            self.stage = Stage.REGISTER
            self._ask(f"AT+CTSP={self._todo[0]}", now_s, self._was_registered)
        else:
            self._ask(self._todo[0], now_s, self._was_set)

    def _was_set(self, final: Final | None, now_s: float) -> None:
        """Whatever it said; each of these may be unknown to it."""
        self._todo.popleft()
        if final is None:
            self._hung(now_s)
        else:
            self._go_on(now_s)

    def _was_registered(self, final: Final | None, now_s: float) -> None:
        if final is None:
            self._hung(now_s)
            return
        if not final.ok and final.number in BUSY and self._service_tries < len(BUSY_S):
            self._service_tries += 1
            self._pause_s = now_s + AGAIN_S
            return
        service = self._todo.popleft()
        self._service_tries = 0
        if not final.ok and final.number != ALREADY:
            # 39, the table is full, is the end for this one; so is everything else.
            self.refused.add(service)
        self._go_on(now_s)

    def _hung(self, now_s: float) -> None:
        self._hangs += 1
        self._disturbed = True
        if self._hangs >= HANGS_MOST:
            self.close("radio does not answer")
        else:
            self._synchronise(now_s)

    def _set_up(self, now_s: float) -> None:
        if len(self.refused) == len(self._services):
            self.close("radio refuses every service")
            return
        self.stage, self.ready = Stage.READY, True
        self._renewed_s = now_s
        # Should it have restarted in the middle, what was registered before that is gone.
        self._renew_at_s = now_s + (RENEW_APART_S if self._disturbed else self._renew_s)

    def _renew_soon(self, now_s: float) -> None:
        """It said of itself what a radio says that has restarted or moved."""
        self._disturbed = True
        at_s = max(now_s, self._renewed_s + RENEW_APART_S)
        self._renew_at_s = min(self._renew_at_s, at_s)

    # ----------------------------------------------------------------- commands

    def _ask(
        self,
        text: str,
        now_s: float,
        then: Callable[[Final | None, float], None],
        within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self._write(text.encode() + END)
        self._reader.expect(text)
        self._command = _Command(text, now_s + within_s, then)

    def _write(self, data: bytes) -> None:
        self._out += data

    def _take(self, event: Event, now_s: float) -> None:
        if not isinstance(event, Unreadable):
            self.alive = True
        match event:
            case Sds():
                self.heard.append(event)
            case Unreadable(reason=reason):
                self.notes.append(reason)
            case Final():
                self._final(event, now_s)
            case Response(name=name, text=text):
                self._answered(name, text, now_s)
            case Unsolicited(name=name, text=text):
                self._answered(name, text, now_s)
                if name in ("+CREG", "+CTOM"):
                    self._renew_soon(now_s)
            case Accepted(instance=instance):
                part = self._flight
                if part is not None and part.instance is None and self._is_with_radio():
                    part.instance = instance
                    self._tells_apart |= self._instance not in (None, instance)
                    self._instance = instance
            case SendResult():
                self._result(event, now_s)
            case Prompt():
                self._put_payload()
            case _:
                pass

    def _is_with_radio(self) -> bool:
        """Whether it has the message that is under way, payload and all."""
        handing = self._command is not None and self._command.text.startswith("AT+CMGS=")
        return self._air_until_s is not None or (handing and not self._payload)

    def _answered(self, name: str, text: str, now_s: float) -> None:
        first = _FIRST.match(text)
        if name == "+CREG" and first is not None:
            was, self.on_network = self.on_network, int(first[0])
            if was not in (None, self.on_network):
                self._renew_soon(now_s)
        elif name == "+CTOM" and first is not None:
            self.mode = int(first[0])
        elif name == "+CMGS" and (ranges := _RANGE.findall(text)):
            self.max_bits = min(self.max_bits, int(ranges[-1][1]))

    def _final(self, final: Final, now_s: float) -> None:
        self._last_s = now_s
        if self.stage is Stage.SYNC:
            if final.ok:
                self.stage = Stage.QUIET
                self._quiet_s, self._until_s = now_s + QUIET_S, now_s + QUIET_WITHIN_S
            else:
                # It is busy with itself (35), or what it had of us before was no command.
                self._retry_s = min(self._retry_s, now_s + SYNC_EVERY_S / 2)
        elif self.stage is Stage.QUIET:
            self._quiet_s = now_s + QUIET_S
        elif self._command is not None:
            command, self._command = self._command, None
            command.then(final, now_s)

    # ----------------------------------------------------------------- one message

    def _begin(self, part: Part, now_s: float) -> None:
        self._flight = part
        part.tries += 1
        part.instance = None
        self._said = None
        if self._service != part.service:
            # Until it has said OK nobody knows which service it is at.
            self._service = 0
            self._ask(
                self._dialect.parameters.format(service=part.service), now_s, self._at_service
            )
        else:
            self._hand_over(part, now_s)

    def _at_service(self, final: Final | None, now_s: float) -> None:
        part = self._flight
        assert part is not None
        if final is not None and final.ok:
            self._service = part.service
            if part.given_up:
                self._flight = None
            else:
                self._hand_over(part, now_s)
        else:
            self._not_taken(part, final, now_s)

    def _hand_over(self, part: Part, now_s: float) -> None:
        command = f"AT+CMGS={part.called},{part.length_bits}"
        self._ask(command, now_s, self._was_taken, TAKE_WITHIN_S)
        self._reader.expect(command, part.digits)
        self._payload = part.digits.encode() + GO
        self._payload_s = now_s + self._dialect.prompt_s
        if self._dialect.prompt_s == 0:
            self._put_payload()

    def _put_payload(self) -> None:
        payload, self._payload = self._payload, b""
        self._write(payload)

    def _was_taken(self, final: Final | None, now_s: float) -> None:
        part = self._flight
        assert part is not None
        unsent, self._payload = bool(self._payload), b""
        if final is None or not final.ok:
            self._not_taken(part, final, now_s)
        elif unsent:
            # OK to a command whose payload we still have: it is not of this message.
            self._not_taken(part, None, now_s)
        else:
            self._air_until_s = now_s + self._air_s
            if self._said is not None:
                self._land(self._said, now_s)

    def _not_taken(self, part: Part, final: Final | None, now_s: float) -> None:
        """The radio did not take it. None: it said nothing, and may have."""
        self._flight = None
        number = final.number if final is not None else None
        if final is None:
            self._owe(part, now_s)
            self._again(part, now_s, "radio does not answer", tries=2)
            self._lost_it(now_s)
        elif number == INHIBITED:
            part.tries -= 1
            self._held_until_s = now_s + HOLD_S
            self._again(part, now_s, "transmit inhibit")
        elif number in BUSY:
            pause_s = BUSY_S[min(part.tries, len(BUSY_S)) - 1]
            self._again(part, now_s, "busy", tries=len(BUSY_S) + 1, pause_s=pause_s)
        elif number in OUT_OF_STEP or number in UNREGISTERED:
            pause_s = STACK_FULL_S if number == 20 else 0.0
            self._again(part, now_s, "refused by the radio", tries=2, pause_s=pause_s)
            self._anew = self._anew or number in UNREGISTERED
            self._synchronise(now_s)
        elif number is None:
            self._again(part, now_s, "refused by the radio", tries=2, pause_s=AGAIN_S)
        else:
            self._finish(part, "refused by the radio")

    def _again(
        self, part: Part, now_s: float, fault: str, *, tries: int = 1 << 30, pause_s: float = 0.0
    ) -> None:
        """Once more, if it may be; else it has ended."""
        if part.given_up:
            return
        if part.tries >= tries or now_s + pause_s >= part.until_s:
            self._finish(part, fault)
            return
        part.not_before_s = now_s + pause_s
        self._queue.append(part)

    def _finish(self, part: Part, fault: str) -> None:
        if not part.given_up:
            self.ended.append(Ended(part.token, fault))

    # ----------------------------------------------------------------- the word of the air

    def _result(self, said: SendResult, now_s: float) -> None:
        """May come before the radio's OK, and long after it was given up."""
        if said.status not in (SENT, FAILED) or self._said_before(said):
            return
        part = self._flight
        mine = part is not None and part.instance == said.instance
        for owed in [each for each in self._owed if each.until_s > now_s]:
            if part is not None and owed.token == part.token:
                continue  # of the attempt before: whatever it says is of this message
            if owed.instance == said.instance or (owed.instance is None and not mine):
                self._owed.remove(owed)
                return
        if part is None or part.instance not in (None, said.instance):
            return
        if self._air_until_s is not None:
            self._land(said, now_s)
        elif part.instance is not None:
            self._said = said

    def _said_before(self, said: SendResult) -> bool:
        """Whether it is the last word once more: by its reference, of a radio that counts them."""
        last, self._last_said = self._last_said, said
        if last is not None and last.reference != said.reference:
            self._numbers_them = True
        same = last is not None and (last.instance, last.reference) == (
            said.instance,
            said.reference,
        )
        return same and self._numbers_them and said.reference is not None

    def _land(self, said: SendResult, now_s: float) -> None:
        part, self._flight = self._flight, None
        self._air_until_s, self._said = None, None
        assert part is not None
        if said.status == SENT:
            self._finish(part, "")
        else:
            self._again(part, now_s, "failed on air", tries=2, pause_s=AGAIN_S)

    def _unheard_of(self, now_s: float) -> None:
        """Nothing was said of it. It may have been sent; whoever waits takes it for not."""
        part, self._flight = self._flight, None
        self._air_until_s = None
        assert part is not None
        self._owe(part, now_s)
        self._finish(part, "no word of the air")

    def _owe(self, part: Part, now_s: float) -> None:
        self._owed.append(_Owed(part.token, part.instance, now_s + OWED_S))


def _rank(part: Part) -> tuple[int, int]:
    return part.urgency, part.n


def _is_hex(digits: str) -> bool:
    return bool(digits) and all(digit in "0123456789ABCDEF" for digit in digits)
