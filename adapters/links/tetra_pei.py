"""What a TETRA radio says on its PEI: bytes in, events out; sans-IO (EN 300 392-5, AT commands).

The problem: one wire carries answers, unsolicited lines and, on a line of their own, the payloads
of messages; they interleave, arrive in pieces, run on, or have lost their ends. What must never
happen is that a payload is given to another calling party than its own: the answer would go there.

Rule: a payload belongs to the header in front of it when it follows before anything that cannot be
read, in time, and is as long as the header says, up to padding. Where headers of several parties
wait and it may be of more than one of them, it is nobody's. What is given up is counted.
Source: reference radio-protocols, 1.1, 1.3; known mistakes there, 7.
"""

from __future__ import annotations

import re

import msgspec

LINE_MOST = 2048
"""The longest message has 512 digits; a list of groups is many lines."""
PAYLOAD_WITHIN_S = 5.0
LINES_BETWEEN = 8
"""So many lines may come between a header and its payload."""
HEADERS_MOST = 4
"""May wait for their payloads at once."""
PADDING_DIGITS = 3
"""Digits that a radio may add behind the last bit; more, and the payload is another's."""
BITS_MOST = 2047
STATUS = 13
SERVICES = (9, 10, 11, 12, STATUS)
"""SDS-1, -2, -3, -4 and status; others are calls."""

UNSOLICITED = frozenset(
    (
        *("CTSDSR", "CMGS", "CREG", "CTOM", "CMTI", "CTGS"),
        *("CTICN", "CTCC", "CTCR", "CTXG", "CDTXC", "CTXD", "CTXI", "CTXW"),
        *("CTOCP", "CTDGR", "CTTCT", "CLVL", "CTBCT"),
    )
)
"""Said without being asked; asked for, it is an answer."""

_DROPPED = bytes(n for n in range(32) if n not in (10, 13)) + b"\x7f"
_ENDS = re.compile(rb"[\r\n]")
_CODE = re.compile(rf"\+(?:{'|'.join(sorted(UNSOLICITED))})\s*:|\+?CM[ES] ERROR", re.IGNORECASE)
_NAMED = re.compile(r"\+([A-Z]{2,8})\s*:\s*(.*)", re.IGNORECASE)
_ERROR = re.compile(r"\+?(CM[ES] ERROR)\s*:?\s*([0-9]{1,4})?.*", re.IGNORECASE)
_HEX = re.compile(r"[0-9A-Fa-f]+")
_PARTY = re.compile(r"[0-9]{0,24}")
_NUMBER = re.compile(r"[0-9]{1,6}")
_BARE = {"0": "OK", "4": "ERROR"}
"""Of a radio that was left without words (ATV0); only behind a command that has no other answer."""
ATTENTION = b"AT"
_WORDLESS = (ATTENTION.decode(), "ATE0", "ATV1")


class Final(msgspec.Struct, frozen=True):
    """A command has ended. code: OK, ERROR, +CME ERROR or +CMS ERROR; number: of the last two."""

    code: str
    number: int | None = None

    @property
    def ok(self) -> bool:
        return self.code == "OK"


class Response(msgspec.Struct, frozen=True):
    """An answer. name: with its plus."""

    name: str
    text: str


class Continuation(msgspec.Struct, frozen=True):
    """A further line of the answer before."""

    text: str


class Echo(msgspec.Struct, frozen=True):
    """What was sent came back."""

    text: str


class Unsolicited(msgspec.Struct, frozen=True):
    name: str
    text: str


class Prompt(msgspec.Struct, frozen=True):
    """`>`: the radio waits for the payload. Most never say it."""


class Sds(msgspec.Struct, frozen=True):
    """A message that came over the air. calling, called: as the radio wrote them; calling may be
    empty. digits: hexadecimal, as many as the bits fill."""

    ai_service: int
    calling: str
    called: str
    length_bits: int
    digits: str

    @property
    def payload(self) -> bytes:
        """Padded to octets."""
        return bytes.fromhex(self.digits + "0" * (len(self.digits) % 2))


class Accepted(msgspec.Struct, frozen=True):
    """The radio took a message; it is not sent yet."""

    instance: int


class SendResult(msgspec.Struct, frozen=True):
    """What became of it. status: 4 sent over the air, 5 failed."""

    instance: int
    status: int
    reference: int | None


class Unreadable(msgspec.Struct, frozen=True):
    """reason: one of messages.FRAME_REASONS."""

    reason: str


Event = (
    Final
    | Response
    | Continuation
    | Echo
    | Unsolicited
    | Prompt
    | Sds
    | Accepted
    | SendResult
    | Unreadable
)


class _Header(msgspec.Struct):
    ai_service: int
    calling: str
    called: str
    length_bits: int
    until_s: float = 0.0
    lines: int = LINES_BETWEEN + 1

    @property
    def digits(self) -> int:
        return -(-self.length_bits // 4)

    def fits(self, digits: str) -> bool:
        return 0 <= len(digits) - self.digits <= PADDING_DIGITS

    def with_payload(self, digits: str) -> Sds:
        return Sds(
            self.ai_service,
            self.calling,
            self.called,
            self.length_bits,
            digits[: self.digits].upper(),
        )


class TetraPei:
    """One line's reader. pending: the command that waits for its final result, set by whoever sent
    it; payload: the digits that went with it. Holds one line at most. Never raises on content."""

    def __init__(self) -> None:
        self.pending = ""
        self.payload = ""
        self._held = bytearray()
        self._skipping = False
        self._prompted = False
        self._answering = False
        self._headers: list[_Header] = []

    def expect(self, command: str, payload: str = "") -> None:
        """This was sent."""
        self.pending, self.payload = command.upper(), payload.upper()
        self._answering = self._prompted = False

    def feed(self, data: bytes, now_s: float) -> list[Event]:
        """What is now complete, oldest first."""
        out: list[Event] = []
        *ended, rest = _ENDS.split(data.translate(None, _DROPPED))
        for piece in ended:
            self._hold(piece, out)
            line, self._held = bytes(self._held), bytearray()
            skipped, self._skipping = self._skipping, False
            if line and not skipped:
                self._line(line.decode("latin-1"), now_s, out)
            self._prompted = False
        self._hold(rest, out)
        if bytes(self._held).strip() == b">" and not self._prompted:
            self._prompted = True
            out.append(Prompt())
        return out

    def _hold(self, piece: bytes, out: list[Event]) -> None:
        if self._skipping:
            return
        if len(self._held) + len(piece) > LINE_MOST:
            self._held.clear()
            self._skipping = True
            self._lose(out, "length")
            return
        self._held += piece

    # ----------------------------------------------------------------- lines

    def _line(self, line: str, now_s: float, out: list[Event]) -> None:
        text = line.strip()
        while text.startswith(">"):
            text = text[1:].lstrip()
            if not self._prompted:
                out.append(Prompt())
        if not text:
            return
        if self.pending and text.upper() == self.pending:
            out.append(Echo(text))
            return
        # A code inside a line begins a line of its own: radios forget to end the one before.
        starts = [match.start() for match in _CODE.finditer(text)]
        for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
            piece = text[start:end].strip()
            if end < len(text) and not self._headers and not any("!" <= c <= "~" for c in piece):
                continue  # noise in front of a code
            if piece:
                self._piece(piece, now_s, out)

    def _piece(self, text: str, now_s: float, out: list[Event]) -> None:
        for header in [each for each in self._headers if now_s >= each.until_s or not each.lines]:
            self._headers.remove(header)
            out.append(Unreadable("length"))
        upper = text.upper()
        if self.payload and upper == self.payload and not self._headers:
            out.append(Echo(text))
        elif self._headers and _HEX.fullmatch(text) and not self._is_bare(text):
            self._payload_came(text, out)
        elif (final := self._final(upper)) is not None:
            self._end(final, out)
        elif (named := _NAMED.fullmatch(text)) is not None:
            self._named(named[1].upper(), named[2].strip(), now_s, out)
        elif self._answering:
            out.append(Continuation(text))
        else:
            self._lose(out, "decode")
        for header in self._headers:
            header.lines -= 1

    def _payload_came(self, digits: str, out: list[Event]) -> None:
        fitting = [header for header in self._headers if header.fits(digits)]
        if not fitting or len({header.calling for header in fitting}) > 1:
            self._lose(out, "length")
            return
        self._headers.remove(fitting[0])
        out.append(fitting[0].with_payload(digits))

    def _lose(self, out: list[Event], reason: str) -> None:
        """Something cannot be read: it may have been the payload, or another header."""
        self._headers.clear()
        out.append(Unreadable(reason))

    def _is_bare(self, text: str) -> bool:
        return text in _BARE and self.pending in _WORDLESS

    def _final(self, upper: str) -> Final | None:
        if upper == "OK":
            return Final("OK")
        if (error := _ERROR.fullmatch(upper)) is not None:
            return Final(f"+{error[1]}", int(error[2]) if error[2] else None)
        if upper.startswith("ERROR"):
            return Final("ERROR")
        return Final(_BARE[upper]) if self._is_bare(upper) else None

    def _end(self, final: Final, out: list[Event]) -> None:
        self.pending, self.payload, self._answering = "", "", False
        out.append(final)

    def _named(self, name: str, text: str, now_s: float, out: list[Event]) -> None:
        asked = self._asked(name)
        if name == "CTSDSR":
            self._sds(text, now_s, out)
        elif name == "CMGS" and not asked:
            self._sent(text, out)
        elif name in UNSOLICITED and not asked:
            out.append(Unsolicited(f"+{name}", text))
        else:
            self._answering = bool(self.pending)
            out.append(Response(f"+{name}", text))

    def _asked(self, name: str) -> bool:
        """Whether the pending command is answered so; sending a message never is."""
        command = f"AT+{name}"
        if name == "CMGS":
            return self.pending == f"{command}=?"
        return self.pending.startswith((f"{command}?", f"{command}=")) or self.pending == command

    def _sent(self, text: str, out: list[Event]) -> None:
        fields = [field.strip() for field in text.split(",")]
        if not all(_NUMBER.fullmatch(field) for field in fields) or len(fields) > 3:
            self._lose(out, "decode")
            return
        numbers = [int(field) for field in fields]
        if len(numbers) == 1:
            out.append(Accepted(numbers[0]))
        else:
            out.append(SendResult(numbers[0], numbers[1], numbers[2] if numbers[2:] else None))

    # ----------------------------------------------------------------- messages

    def _sds(self, text: str, now_s: float, out: list[Event]) -> None:
        fields = [field.strip() for field in text.split(",")]
        header = _header(fields[:-1])
        if header is not None and header.length_bits >= 8:
            digits = fields[-1]
            if len(digits) > 1 and _HEX.fullmatch(digits) and header.fits(digits):
                out.append(header.with_payload(digits))
                return
        header = _header(fields)
        if header is None:
            self._lose(out, "decode")
            return
        if len(self._headers) == HEADERS_MOST:
            self._lose(out, "length")
        header.until_s = now_s + PAYLOAD_WITHIN_S
        self._headers.append(header)


def _header(fields: list[str]) -> _Header | None:
    """Of 3 (service, called, bits), 4 (.. called, type, bits), 6 (service, calling, type, called,
    type, bits) or 7 fields (.. end-to-end). None when it is none of them."""
    calling = ""
    match fields:
        case [service, called, bits] | [service, called, _, bits]:
            pass
        case [service, calling, _, called, _, bits] | [service, calling, _, called, _, bits, _]:
            pass
        case _:
            return None
    if not (_NUMBER.fullmatch(service) and _NUMBER.fullmatch(bits)):
        return None
    if not (_PARTY.fullmatch(calling) and _PARTY.fullmatch(called)):
        return None
    if int(service) not in SERVICES or not 1 <= int(bits) <= BITS_MOST:
        return None
    if int(service) == STATUS and int(bits) != 16:
        return None
    return _Header(int(service), calling, called, int(bits))
