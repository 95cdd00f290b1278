"""A mobile data terminal on a serial line: sentences and enquiries in, text lines out.

Up: `$...` an NMEA sentence · `#S <code>` a status, 0 is an emergency · `#A <short> <part> D|R` a
part was delivered or read · anything else an enquiry as typed (KeySDS). Down: `SENT C7F3` the
receipt, `XX R? GIVE REASON` a refusal · `C8A1 1/3 !!WEAPONS ...` a part of an answer · `C7F3 LATE
REPLY ...` a notice. Where the enquiry had a client reference, `Q12 ` stands in front of receipt,
refusal and parts. One message a line, CR LF, ASCII.
Source: docs/interfaces.md (ours).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from adapters.codecs import keysds
from adapters.codecs.lines import LineSplitter, TooLong
from adapters.codecs.nmea0183 import Nmea0183, rmc
from gateway.messages import (
    AckState,
    BadFrame,
    Decoded,
    DeliveryAck,
    Frame,
    LocationFix,
    Message,
    Notice,
    Receipt,
    Result,
    StatusReport,
    TextPart,
)

LINE_MAX = 1024
STATUS_MAX = 65535

_STATUS = re.compile(r"#S ([0-9]{1,5})")
_ACK = re.compile(r"#A ([0-9A-Z]{4}) ([1-9]) ([DR])")
_PART = re.compile(r"(?:Q([0-9]{1,3}) )?([0-9A-Z]{4}) ([1-9])/([1-9]) (.*)")
_SENT = re.compile(r"(?:Q([0-9]{1,3}) )?SENT ([0-9A-Z]{4})")
_REFUSED = re.compile(r"(?:Q([0-9]{1,3}) )?XX (.*)")
_NOTICE = re.compile(r"([0-9A-HJKMNP-TV-Z]{4}) (.*)")
"""A short form has no I, L, O, U: `CALL CONTROL` and `ECHO ...` begin with a word."""


class LineTerminal:
    """gateway.ports.Codec, either side. Holds at most one line of LINE_MAX bytes."""

    STREAM = True

    def __init__(self, *, side: str = "gateway", accept_estimated: bool = False) -> None:
        self._side = side
        self._lines = LineSplitter(LINE_MAX)
        self._nmea = Nmea0183(accept_estimated=accept_estimated)

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """Take any slice of the stream; return what is now complete. Never raises on content."""
        out: list[Decoded] = []
        for line in self._lines.feed(data):
            if isinstance(line, TooLong):
                out.append(BadFrame("length"))
            elif self._side == "terminal":
                out.append(read_down(line))
            else:
                out += self._up(line, received_at_ms)
        return out

    def _up(self, line: bytes, received_at_ms: int) -> list[Decoded]:
        line = line.strip(b"\x00\xff")
        if not line.strip():
            return []
        if b"$" in line or line.startswith(b"!"):
            return self._nmea.line(line, received_at_ms=received_at_ms)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return [BadFrame("decode")]
        if any(each < " " and each != "\t" for each in text):
            # A wrong baud rate, not an officer: nobody is answered, nothing is put on record.
            return [BadFrame("decode")]
        if text.lstrip().startswith("#"):
            return [_control(text.strip().upper())]
        return [keysds.parse(text)]

    def encode(self, message: Message) -> Sequence[Frame]:
        """The line or lines that say this message; () when there is no word for it here."""
        lines = _up_lines(message) if self._side == "terminal" else down_lines(message)
        return tuple(Frame(data=_plain(line).encode("ascii") + b"\r\n") for line in lines)


def _control(text: str) -> Decoded:
    if (status := _STATUS.fullmatch(text)) and int(status.group(1)) <= STATUS_MAX:
        return StatusReport(code=int(status.group(1)))
    if ack := _ACK.fullmatch(text):
        state = AckState.READ if ack.group(3) == "R" else AckState.DELIVERED
        return DeliveryAck(check=ack.group(1), part=int(ack.group(2)), state=state)
    return BadFrame("decode")


def read_down(line: bytes) -> Decoded:
    """What the gateway said with this line, as its terminal reads it."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        return BadFrame("decode")
    if sent := _SENT.fullmatch(text):
        return Receipt(
            ref="", check="", short=sent.group(2), accepted=True, client_ref=sent.group(1) or ""
        )
    if refused := _REFUSED.fullmatch(text):
        return Receipt(
            ref="",
            check="",
            short="",
            accepted=False,
            why=refused.group(2),
            client_ref=refused.group(1) or "",
        )
    part = _PART.fullmatch(text)
    if part and int(part.group(3)) <= int(part.group(4)):
        return TextPart(
            short=part.group(2),
            part=int(part.group(3)),
            parts=int(part.group(4)),
            text=part.group(5),
            client_ref=part.group(1) or "",
        )
    if notice := _NOTICE.fullmatch(text):
        return Notice(kind="text", text=notice.group(2), short=notice.group(1))
    return Notice(kind="text", text=text)


def down_lines(message: Message) -> Sequence[str]:
    """The words for a small screen that say this message, one string a line or SDS."""
    match message:
        case Receipt(accepted=True):
            return (f"{_client(message.client_ref)}SENT {message.short}",)
        case Receipt():
            # Said even where a Result will say it again: not every refusal has one.
            return (f"{_client(message.client_ref)}XX {message.why}",)
        case Result():
            return message.texts
        case Notice(texts=texts) if texts:
            return texts
        case Notice():
            named = message.short and not message.text.startswith(message.short)
            return (f"{message.short} {message.text}" if named else message.text,)
        case TextPart():
            head = f"{_client(message.client_ref)}{message.short} {message.part}/{message.parts}"
            return (f"{head} {message.text}",)
        case _:
            return ()


def _up_lines(message: Message) -> Sequence[str]:
    if (text := keysds.written(message)) is not None:
        return (text,)
    match message:
        case StatusReport():
            return (f"#S {message.code}",)
        case DeliveryAck():
            letter = "R" if message.state is AckState.READ else "D"
            return (f"#A {message.check[-4:]} {message.part} {letter}",)
        case LocationFix():
            sentence = rmc(message)
            return () if sentence is None else (sentence.decode("ascii"),)
        case _:
            return ()


def _client(reference: str) -> str:
    return f"Q{reference} " if reference else ""


def _plain(line: str) -> str:
    """One line of printable ASCII, whatever stands in it: accents go, the rest becomes `?`."""
    folded = unicodedata.normalize("NFKD", line)
    kept = (each for each in folded if not unicodedata.combining(each))
    return "".join(each if " " <= each <= "~" else "?" for each in kept)
