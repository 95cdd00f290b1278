"""What a handset does with short data by itself: references, delivery reports, parts put together.

A handset tells the sender that a message came as soon as it came, and that it was read when its
user opened it; both in the long form or in the short one, as makes differ. No I/O, no clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

from simulators import tetra_air as air
from simulators.tetra_air import Locate, Parted, Report, Sdu, Status, Text

OPEN_MOST = 8
"""Texts of which parts are missing; the oldest is given up."""
KEPT_MOST = 500


class Came(msgspec.Struct):
    """What one message from the network led to: what there is to read, what goes back at once."""

    texts: list[Text] = []
    replies: list[Sdu] = []
    locate: Locate | None = None
    status: Status | None = None


class Mobile:
    """One handset's short data. asks: which report it wants for what it sends (0 none). short: it
    reports by status. coding: of the texts that it sends."""

    def __init__(
        self,
        *,
        asks: int = 0,
        short: bool = False,
        coding: int = air.LATIN_1,
        simple: bool = False,
        pdu_bits: int = air.PDU_BITS,
    ) -> None:
        """simple: its texts carry no SDS-TL, so that nothing can be asked or told of them."""
        self._asks = asks
        self._short = short
        self._coding = coding
        self._simple = simple
        self._pdu_bits = pdu_bits
        self._mr = 0
        self._parts: OrderedDict[tuple[int, bytes, int], dict[int, Text | Parted]] = OrderedDict()
        self.reports: deque[Report] = deque(maxlen=KEPT_MOST)
        """What the gateway said of our messages."""
        self.sent: deque[int] = deque(maxlen=KEPT_MOST)
        """References that we gave."""
        self.strange = 0
        """Messages that no handset understands: must stay 0."""

    def text(self, text: str) -> list[Sdu]:
        """A text as one message, or as parts."""
        if self._simple:
            return [air.simple_text(text, coding=self._coding)]
        whole = air.text(text, self._next(), request=self._asks, coding=self._coding)
        if whole.bits <= self._pdu_bits:
            return [whole]
        parts = air.parts(
            text, self._mr, pdu_bits=self._pdu_bits, request=self._asks, coding=self._coding
        )
        for _ in parts[1:]:
            self._next()
        return parts

    def hear(self, sdu: Sdu) -> Came:
        heard = air.read(sdu)
        match heard:
            case Text() | Parted():
                return self._text(heard)
            case Report():
                self.reports.append(heard)
                return Came()
            case Status():
                return Came(status=heard)
            case Locate():
                return Came(locate=heard)
            case _:
                self.strange += 1
                return Came()

    def opened(self, text: Text) -> list[Sdu]:
        """Its user has read this text: the report, where the sender asked for it."""
        if text.mr is None or not text.request & air.ASK_CONSUMED:
            return []
        return [self._report(text.pid, air.CONSUMED, text.mr)]

    # ----------------------------------------------------------------- one by one

    def _text(self, heard: Text | Parted) -> Came:
        came = Came()
        pid = heard.pid if isinstance(heard, Text) else air.PARTED
        if heard.mr is not None and heard.request & air.ASK_RECEIVED:
            came.replies.append(self._report(pid, air.RECEIVED, heard.mr))
        if isinstance(heard, Text) and not heard.ref:
            came.texts.append(heard)
        else:
            came.texts += self._gather(pid, heard)
        return came

    def _gather(self, pid: int, heard: Text | Parted) -> list[Text]:
        ref = heard.ref if isinstance(heard, Text) else bytes([heard.ref])
        key = pid, ref, heard.parts
        parts = self._parts.setdefault(key, {})
        parts[heard.part] = heard
        if set(parts) != set(range(1, heard.parts + 1)):
            while len(self._parts) > OPEN_MOST:
                self._parts.popitem(last=False)
            return []
        del self._parts[key]
        if isinstance(heard, Text):
            joined = air.joined([each for each in parts.values() if isinstance(each, Text)])
            return [] if joined is None else [joined]
        cut = [each for _, each in sorted(parts.items()) if isinstance(each, Parted)]
        inner = air.read(air.whole(air.SDS_4, b"".join(each.data for each in cut)))
        return [inner] if isinstance(inner, Text) else []

    def _report(self, pid: int, delivery: int, mr: int) -> Sdu:
        if not self._short:
            return air.report(pid, delivery, mr)
        kind = air.SHORT_CONSUMED if delivery == air.CONSUMED else air.SHORT_RECEIVED
        return air.short_report(kind, mr)

    def _next(self) -> int:
        self._mr = (self._mr + 1) % 256
        self.sent.append(self._mr)
        return self._mr
