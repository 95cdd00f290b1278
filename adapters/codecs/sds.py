"""Short data of one TETRA terminal: texts, statuses, positions and reports in, answers out.

One object for each calling party, because reports, references and parts are between two. What the
officer types is KeySDS; a status is a number of the fleet's table; what a radio asks to have
reported is owed to it (`replies`); what it reports of ours becomes a DeliveryAck of the part.

An answer with danger words goes out so that it shows at once (0x89), and asks to be told when it
was received and when it was read. Only its first part does: that holds every danger word, and a
second one that showed at once would stand in front of it.

A radio or network may hand a message over twice. A question comes through: the core knows a repeat.
Anything else that was heard a moment ago, with the same message reference, is dropped: a cancel
that is taken twice takes back two questions.
Source: reference radio-protocols, 1.5, 2, 6.2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from adapters.codecs import keysds, sds_pdu
from adapters.codecs.line_terminal import down_lines, read_down
from adapters.codecs.lip import Lip
from adapters.codecs.nmea0183 import Nmea0183, rmc
from adapters.codecs.sds_parts import Gatherer, Lost, Part, cut
from adapters.codecs.sds_pdu import BOTH, NOTHING, WHEN_CONSUMED, WHEN_RECEIVED
from adapters.codecs.sds_references import References, Reported, Sent
from adapters.codecs.sds_text import LATIN1, UTF16, decoded, encoded, undecorated
from gateway.messages import (
    AckState,
    BadFrame,
    BookOff,
    BookOn,
    CheckRequest,
    Decoded,
    DeliveryAck,
    EchoTest,
    Frame,
    HelpRequest,
    Ignored,
    Locate,
    LocationFix,
    MalformedCheck,
    Message,
    Notice,
    Reasoning,
    RecallRequest,
    Result,
    StatusReport,
    TextPart,
)

SDS4, STATUS = "sds4", "status"
USER_DATA = ("sds1", "sds2", "sds3")
"""16, 32 and 64 bits that only their users know."""
OCTETS_MOST = 256
"""2,047 bits: the longest there is."""

SIMPLE_TEXT, SIMPLE_IMMEDIATE = 0x02, 0x09
TEXT, TL_LOCATION, IMMEDIATE, UDH, CONCATENATED = 0x82, 0x83, 0x89, 0x8A, 0x8C
TL = 0x80
"""From here an SDS-TL header follows."""
TEXT_HEAD = 4
"""Octets before the text: PID, type, reference, coding."""
UDH_HEAD = 6
CONCAT_HEAD = 6
STAMPED, CODING = 0x80, 0x7F
STAMP_OCTETS = 3
NMEA, RTCM, PROPRIETARY = 0x00, 0x01, 0x80

COPY_MS = 10_000
"""A network's second copy comes within this; an officer who says it again is slower."""
COPIES_MOST = 16
OWED_MOST = 64
MISSING = "PART MISSING. SEND AGAIN"
_REPEATABLE = (CheckRequest, MalformedCheck, TextPart, BadFrame)
_ALL_BUT_CANCEL = (*_REPEATABLE, HelpRequest, EchoTest, RecallRequest, BookOn, BookOff, Reasoning)
_UDH_NAMES = {(0x00, 3): 1, (0x08, 4): 2}
"""Element and length, and how many octets of it are the reference."""


class Sds:
    """gateway.ports.Codec for one terminal. feed: one SDS, its octets filled up with zero bits.

    max_pdu_bits: the longest SDS that network and radio take. codings: of what goes out, the best
    first. reports: ask for a report of what carries no danger word, too. concatenation: `udh` or
    `sds`, how a text that is too long for one SDS is sent. undecorate: drop the identities that
    some networks put around a text. first_reference: another one in each life, so that reports of
    what was sent in the last one mean nothing in this.
    """

    def __init__(
        self,
        *,
        side: str = "gateway",
        max_pdu_bits: int = 668,
        codings: Sequence[int] = (LATIN1, UTF16),
        reports: bool = True,
        concatenation: str = "udh",
        undecorate: bool = True,
        first_reference: int = 0,
        accept_estimated: bool = False,
    ) -> None:
        self._terminal = side == "terminal"
        self._octets = min(max_pdu_bits, 8 * OCTETS_MOST - 1) // 8
        self._codings = tuple(codings)
        self._reports = reports
        self._concatenation = concatenation
        self._undecorate = undecorate
        self._nmea = Nmea0183(accept_estimated=accept_estimated)
        self._lip = Lip(side=side)
        self._parts = Gatherer()
        self._references = References(first_reference)
        self._reported = Reported()
        self._unsupported: set[int] = set()
        """PIDs that this radio said it does not know."""
        self._copies: OrderedDict[tuple[int, int, int], int] = OrderedDict()
        self._owed: list[Frame] = []
        self._shown: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()
        """Terminal side: of each part that can be acknowledged, PID and reference."""

    # ----------------------------------------------------------------- in

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """Take one SDS of this terminal. channel: sds4 (or empty), status, sds1, sds2, sds3."""
        self._references.tick(received_at_ms)
        out = self.lapse(received_at_ms)
        try:
            match channel:
                case "status":
                    out += self._status(data)
                case "sds4" | "":
                    out += self._sds4(data, received_at_ms)
                case _:
                    out.append(Ignored(channel if channel in USER_DATA else "chan"))
        except sds_pdu.Wrong as wrong:
            out.append(BadFrame(wrong.reason))
        return out + self._missing()

    def replies(self) -> Sequence[Frame]:
        """The reports and acknowledgements that are owed for what was fed since this was asked."""
        owed, self._owed = self._owed, []
        return owed

    def lapse(self, now_ms: int) -> list[Decoded]:
        """Messages whose parts did not come in time; `feed` sees to it, too."""
        self._parts.lapse(now_ms)
        return self._missing()

    @property
    def lapses_at_ms(self) -> int | None:
        """When `lapse` has something to say, unless more comes; None: nothing waits."""
        return self._parts.next_ms

    def _status(self, data: bytes) -> Sequence[Decoded]:
        if len(data) != 2:
            return [BadFrame("length")]
        value = int.from_bytes(data, "big")
        short = sds_pdu.short_report(value)
        if short is not None:
            return self._heard_short(short)
        if self._terminal:
            return [Ignored("stat")]
        if value == sds_pdu.EMERGENCY or value >= sds_pdu.USER_FIRST:
            return [StatusReport(code=value)]
        return [BadFrame("reserved")]

    def _sds4(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        if not data or len(data) > OCTETS_MOST:
            return [BadFrame("length")]
        pid = data[0]
        if pid >= TL:
            return self._layered(data, now_ms)
        match pid:
            case 0x02 | 0x09:
                if len(data) < 2:
                    return [BadFrame("length")]
                return self._text(pid, None, data[1], data[2:], now_ms)
            case 0x03:
                return self._location(data[1:], now_ms)
            case 0x0A:
                return self._lip.feed(data, received_at_ms=now_ms)
            case _:
                return [Ignored(f"{pid:02X}")]

    def _layered(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """What has an SDS-TL header."""
        match sds_pdu.read(data):
            case sds_pdu.Transfer() as transfer:
                return self._transfer(transfer, now_ms)
            case sds_pdu.Report() as report:
                if report.ack:
                    self._owe(sds_pdu.ack(report.pid, report.reference, report.status | 1))
                return self._heard_report(report.reference, report.status, report.pid)
            case sds_pdu.Ack():
                return [Ignored("ack")]
            case None:
                return [Ignored(f"{data[0]:02X}")]

    def _transfer(self, transfer: sds_pdu.Transfer, now_ms: int) -> Sequence[Decoded]:
        data = transfer.data
        match transfer.pid:
            case 0x82 | 0x89:
                coding, text = _unstamped(data)
                self._report(transfer, sds_pdu.RECEIVED, sds_pdu.CONSUMED)
                return self._text(transfer.pid, transfer.reference, coding, text, now_ms)
            case 0x8A:
                return self._gather(transfer, _udh_part(transfer), now_ms)
            case 0x8C:
                return self._gather(transfer, _concatenated_part(transfer), now_ms)
            case 0x83:
                self._report(transfer, sds_pdu.RECEIVED, sds_pdu.CONSUMED)
                return self._location(data, now_ms)
            case _:
                self._report(transfer, sds_pdu.UNSUPPORTED)
                return [Ignored(f"{transfer.pid:02X}")]

    def _gather(self, transfer: sds_pdu.Transfer, part: Part, now_ms: int) -> Sequence[Decoded]:
        made = self._parts.take(part, now_ms)
        if made.refused == "length":
            self._report(transfer, sds_pdu.TOO_LONG)
        if made.refused not in ("", "duplicate"):
            return [BadFrame(made.refused)]
        waits = not made.whole and part.kind == CONCATENATED
        self._report(
            transfer, sds_pdu.PART_RECEIVED if waits else sds_pdu.RECEIVED, sds_pdu.CONSUMED
        )
        if made.refused:
            return [BadFrame(made.refused)]
        if not made.whole:
            return []
        whole = b"".join(each.data for each in made.whole)
        if part.kind == CONCATENATED:
            return self._inner(whole, now_ms)
        codings = {each.coding for each in made.whole}
        if len(codings) == 1 and part.coding != 0:
            return self._text(part.kind, None, part.coding, whole, now_ms)
        # Septets are packed part by part, and each part may choose its own coding.
        return self._words("".join(decoded(each.coding, each.data) for each in made.whole))

    def _inner(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        """What was concatenated begins with a PID of its own; not another concatenation."""
        if not data or data[0] in (UDH, CONCATENATED):
            return [BadFrame("decode")]
        if len(data) <= OCTETS_MOST:
            return self._sds4(data, now_ms)
        match sds_pdu.read(data) if data[0] >= TL else None:
            case sds_pdu.Transfer(pid=0x82 | 0x89) as transfer:
                return self._transfer(transfer, now_ms)
            case _:
                return [BadFrame("length")]

    def _missing(self) -> list[Decoded]:
        """Each message that was lost is counted, and its officer told, if it may have been one."""
        out: list[Decoded] = []
        for lost in self._parts.lost():
            out.append(BadFrame("parts"))
            if not self._terminal and _may_be_text(lost):
                out.append(MalformedCheck(why=MISSING, typed=True))
        return out

    # ----------------------------------------------------------------- what it says

    def _text(
        self, pid: int, reference: int | None, coding: int, data: bytes, now_ms: int
    ) -> Sequence[Decoded]:
        out = self._words(decoded(coding & CODING, data))
        # Without a reference it may as well be said again: then only what would do harm is held.
        harmless = _REPEATABLE if reference is not None else _ALL_BUT_CANCEL
        passes = all(isinstance(each, harmless) for each in out)
        if not passes and self._is_copy(pid, reference, data, now_ms):
            return [BadFrame("duplicate")]
        if self._terminal and reference is not None:
            for each in out:
                if isinstance(each, TextPart):
                    self._shown[each.short, each.part] = pid, reference
                    while len(self._shown) > COPIES_MOST:
                        self._shown.popitem(last=False)
        return out

    def _words(self, text: str) -> Sequence[Decoded]:
        if self._undecorate:
            text = undecorated(text)
        if self._terminal:
            return [read_down(text.encode("ascii", "replace"))]
        return [keysds.parse(text)]

    def _is_copy(self, pid: int, reference: int | None, data: bytes, now_ms: int) -> bool:
        # A keyed hash, not the text: there may be a factor in it.
        key = pid, -1 if reference is None else reference, hash(data)
        before_ms = self._copies.pop(key, None)
        self._copies[key] = now_ms
        while len(self._copies) > COPIES_MOST:
            self._copies.popitem(last=False)
        return before_ms is not None and 0 <= now_ms - before_ms < COPY_MS

    def _location(self, data: bytes, now_ms: int) -> Sequence[Decoded]:
        if self._terminal:
            return [Ignored("loc")]
        if not data:
            return [BadFrame("length")]
        match data[0]:
            case 0x00:
                lines = data[1:].replace(b"\r", b"\n").split(b"\n")
                found = [
                    each
                    for line in lines
                    if line.strip(b"\x00\xff \t")
                    for each in self._nmea.line(line, received_at_ms=now_ms)
                ]
                return found or [BadFrame("decode")]
            case 0x01:
                return [Ignored("RTCM")]
            case 0x80:
                return [_proprietary(data[1:])]
            case _:
                return [Ignored("loc")]

    # ----------------------------------------------------------------- reports

    def _report(self, transfer: sds_pdu.Transfer, *statuses: int) -> None:
        """What its sender asked for: received (1), consumed (2), both (3); a failure in any case
        where anything was asked. statuses: when received, and when consumed if that is now."""
        if transfer.wanted == NOTHING:
            return
        first, *then = statuses
        if not then:
            self._owe(sds_pdu.report(transfer.pid, transfer.reference, first))
            return
        if transfer.wanted & 1:
            self._owe(sds_pdu.report(transfer.pid, transfer.reference, first))
        if transfer.wanted & 2 and not self._terminal:
            self._owe(sds_pdu.report(transfer.pid, transfer.reference, then[0]))

    def _owe(self, pdu: bytes) -> None:
        if len(self._owed) < OWED_MOST:
            self._owed.append(Frame(data=pdu, channel=SDS4))

    def _heard_short(self, short: sds_pdu.ShortReport) -> Sequence[Decoded]:
        status = {
            sds_pdu.SHORT_RECEIVED: sds_pdu.RECEIVED,
            sds_pdu.SHORT_CONSUMED: sds_pdu.CONSUMED,
            sds_pdu.SHORT_UNSUPPORTED: sds_pdu.UNSUPPORTED,
        }.get(short.kind)
        if status is None:
            return [Ignored("full")]
        return self._heard_report(short.reference, status)

    def _heard_report(
        self, reference: int, status: int, pid: int | None = None
    ) -> Sequence[Decoded]:
        """pid: of the report, which is that of what it reports; a short one has none."""
        sent = self._references.of(reference)
        if sent is None or pid not in (None, sent.pid):
            return [Ignored("rep")]
        match status:
            case 0x00 | 0x06:
                state = AckState.DELIVERED
            case 0x02 if sent.wanted & WHEN_CONSUMED:
                state = AckState.READ
            case 0x50:
                self._unsupported.add(sent.pid)
                return [Ignored("rep")]
            case 0x51:
                left = tuple(each for each in self._codings if each != sent.coding)
                self._codings = left or self._codings
                return [Ignored("rep")]
            case _:
                # It failed, or the network has it: the Courier will send it again. Or it was opened
                # and nobody asked for that: then it means another message, of a life before ours.
                return [Ignored("rep")]
        if state is AckState.READ or sent.wanted == WHEN_RECEIVED:
            self._references.settle(reference)
        return self._reported.heard(sent, state) or [Ignored("rep")]

    # ----------------------------------------------------------------- out

    def encode(self, message: Message) -> Sequence[Frame]:
        """The SDS that say this message, in the order in which they should go out."""
        if self._terminal:
            return self._encode_up(message)
        match message:
            case Result():
                return self._told(message.check, message.texts, bool(message.danger))
            case Notice(texts=texts, id=id_) if texts:
                return self._told(id_, texts, bool(message.danger), read=True)
            case Notice():
                return self._said(down_lines(message), bool(message.danger))
            case Locate():
                return self._lip.encode(message)
            case _:
                return self._said(down_lines(message), False)

    def _said(self, texts: Iterable[str], danger: bool) -> Sequence[Frame]:
        """What is said once: nobody waits for a report of it."""
        return [
            frame
            for text in texts
            for frame in self._frames(text, danger, lambda _pid, _coding, _piece: None)
        ]

    def _told(
        self, check: str, texts: Sequence[str], danger: bool, *, read: bool = False
    ) -> Sequence[Frame]:
        """What is kept until it is acknowledged, part by part."""
        wanted = BOTH if danger or (read and self._reports) else WHEN_RECEIVED
        wanted = wanted if danger or self._reports else NOTHING
        out: list[Frame] = []
        pieces: list[int] = []
        for part, text in enumerate(texts, 1):

            def sent(pid: int, coding: int, piece: int, part: int = part) -> Sent | None:
                if wanted == NOTHING:
                    return None
                return Sent(check, part, piece, pid, coding, wanted)

            frames = self._frames(text, danger and part == 1, sent)
            pieces.append(len(frames))
            out += frames
        self._reported.sent(check, pieces)
        return out

    def _frames(
        self, text: str, immediate: bool, sent: Callable[[int, int, int], Sent | None]
    ) -> list[Frame]:
        """One text: in one SDS, or in as many as it takes."""
        text = "".join(each if each.isprintable() else "?" for each in text)
        coding, data = encoded(text, self._codings)
        pid = IMMEDIATE if immediate and IMMEDIATE not in self._unsupported else TEXT
        if len(data) <= self._octets - TEXT_HEAD:
            return [self._frame(pid, bytes((coding,)) + data, sent(pid, coding, 0))]
        if immediate or UDH in self._unsupported:
            # No SDS in parts shows at once: each piece stands for itself, whole words in it.
            pieces = cut(text, self._fits(coding, TEXT_HEAD), words=True)
            return [
                self._frame(pid, self._coded(coding, piece), sent(pid, coding, n))
                for n, piece in enumerate(pieces)
            ]
        if self._concatenation == "sds":
            return self._concatenated(bytes((coding,)) + data, coding, sent)
        pieces = cut(text, self._fits(coding, TEXT_HEAD + UDH_HEAD))
        out: list[Frame] = []
        name: int | None = None
        for n, piece in enumerate(pieces):
            owner = sent(UDH, coding, n)
            reference, wanted = self._reference(owner)
            name = reference if name is None else name
            udh = bytes((coding, 5, 0, 3, name, len(pieces), n + 1))
            body = udh + self._coded(coding, piece)[1:]
            out.append(Frame(sds_pdu.transfer(UDH, reference, body, wanted), SDS4))
        return out

    def _concatenated(
        self, text: bytes, coding: int, sent: Callable[[int, int, int], Sent | None]
    ) -> list[Frame]:
        """An SDS of its own in parts, PID and header in the first."""
        inner = sds_pdu.transfer(TEXT, self._references.any(), text)
        room = self._octets - CONCAT_HEAD
        pieces = [inner[at : at + room] for at in range(0, len(inner), room)]
        out: list[Frame] = []
        name: int | None = None
        for n, piece in enumerate(pieces):
            reference, wanted = self._reference(sent(CONCATENATED, coding, n))
            name = reference & 0xF if name is None else name
            body = bytes((name, len(pieces), n + 1)) + piece
            out.append(Frame(sds_pdu.transfer(CONCATENATED, reference, body, wanted), SDS4))
        return out

    def _fits(self, coding: int, head: int) -> Callable[[str], bool]:
        room = self._octets - head
        return lambda text: len(encoded(text, (coding,))[1]) <= room

    def _coded(self, coding: int, text: str) -> bytes:
        return bytes((coding,)) + encoded(text, (coding,))[1]

    def _frame(self, pid: int, data: bytes, sent: Sent | None) -> Frame:
        reference, wanted = self._reference(sent)
        return Frame(sds_pdu.transfer(pid, reference, data, wanted), SDS4)

    def _reference(self, sent: Sent | None) -> tuple[int, int]:
        """The reference, and what reports to ask for: none where none could be told apart."""
        if sent is not None and (reference := self._references.take(sent)) is not None:
            return reference, sent.wanted
        return self._references.any(), NOTHING

    # ----------------------------------------------------------------- as a terminal

    def _encode_up(self, message: Message) -> Sequence[Frame]:
        if (text := keysds.written(message)) is not None:
            return self._said([text], False)
        match message:
            case StatusReport(code=code) if code == sds_pdu.EMERGENCY or (
                sds_pdu.USER_FIRST <= code <= 0xFFFF
            ):
                return [Frame(code.to_bytes(2, "big"), STATUS)]
            case DeliveryAck(check=check, part=part, state=state):
                known = self._shown.get((check[-4:], part))
                if known is None:
                    return ()
                read = state is AckState.READ
                status = sds_pdu.CONSUMED if read else sds_pdu.RECEIVED
                return [Frame(sds_pdu.report(*known, status), SDS4)]
            case LocationFix():
                sentence = rmc(message)
                if sentence is None:
                    return ()
                return [self._frame(TL_LOCATION, bytes((NMEA,)) + sentence, None)]
            case _:
                return ()


# --------------------------------------------------------------------------- shapes


def _unstamped(data: bytes) -> tuple[int, bytes]:
    """Coding and text, the timestamp left out."""
    if not data:
        raise sds_pdu.Wrong("length")
    start = 1 + (STAMP_OCTETS if data[0] & STAMPED else 0)
    if len(data) < start:
        raise sds_pdu.Wrong("length")
    return data[0] & CODING, data[start:]


def _udh_part(transfer: sds_pdu.Transfer) -> Part:
    """A text with a user data header: the part that it is, of one part without such an element."""
    coding, data = _unstamped(transfer.data)
    if not data or len(data) < 1 + data[0]:
        raise sds_pdu.Wrong("length")
    header, text = data[1 : 1 + data[0]], data[1 + data[0] :]
    name, total, place = b"", 1, 1
    while header:
        if len(header) < 2 or len(header) < 2 + header[1]:
            raise sds_pdu.Wrong("decode")
        element, body, header = header[0], header[2 : 2 + header[1]], header[2 + header[1] :]
        octets = _UDH_NAMES.get((element, len(body)))
        if octets is not None:
            name, total, place = body[:octets], body[octets], body[octets + 1]
    return Part(UDH, name, total, place, transfer.reference, text, coding)


def _concatenated_part(transfer: sds_pdu.Transfer) -> Part:
    data = transfer.data
    if len(data) < 3:
        raise sds_pdu.Wrong("length")
    if data[0] >> 5:
        raise sds_pdu.Wrong("decode")
    name, data = (data[:2], data[2:]) if data[0] & 0x10 else (data[:1], data[1:])
    if len(data) < 2:
        raise sds_pdu.Wrong("length")
    return Part(CONCATENATED, name, data[0], data[1], transfer.reference, data[2:])


def _may_be_text(lost: Lost) -> bool:
    """Whether an officer may have typed it: not where its first part says otherwise."""
    first = lost.first
    if first is None or first.kind == UDH or not first.data:
        return True
    return first.data[0] in (SIMPLE_TEXT, SIMPLE_IMMEDIATE, TEXT, IMMEDIATE)


def _proprietary(data: bytes) -> Decoded:
    """flags 12, lat 24, lon 24, both signed; a pole or null island says that there is none."""
    if len(data) < 8:
        return BadFrame("length")
    bits = int.from_bytes(data[:8], "big") >> 4
    lat = _signed24(bits >> 24) * 180 / (1 << 24)
    lon = _signed24(bits) * 360 / (1 << 24)
    if abs(lat) > 89.9999:
        return BadFrame("void")
    if abs(lat) < 1e-4 and abs(lon) < 1e-4:
        return BadFrame("null")
    return LocationFix(lat=lat, lon=lon)


def _signed24(bits: int) -> int:
    value = bits & 0xFFFFFF
    return value - (1 << 24) if value >> 23 else value
