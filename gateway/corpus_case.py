"""A case of a corpus, of what a link heard: one command from a fault in the field to a test.

Identities, marks, names and positions are made synthetic by rule; equal ones stay equal, and what
was wrong with a frame stays wrong. Then the codec is asked again: where it does not decide as it
did of the original, or where anything of the original is still there, nothing is written.

What the case expects is what is decided now. If that was the fault, mend `expect` by hand first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from adapters import codecs
from adapters.codecs import keysds, sds_pdu, sds_text
from adapters.codecs.hush import blotted
from adapters.links.tetra_pei import Sds as PeiSds
from adapters.links.tetra_pei import TetraPei
from adapters.recordings import Heard
from gateway.messages import (
    BadFrame,
    BookOff,
    BookOn,
    CheckRequest,
    Decoded,
    DeliveryAck,
    EchoTest,
    Heartbeat,
    Ignored,
    LocationFix,
    MalformedCheck,
    PersonKey,
    PropertyKey,
    Reasoning,
    StatusReport,
    VehicleKey,
    kind_of,
)

HOME = (52.5725, -0.2431)
"""Where the first position comes to lie; the others keep their way from it."""
SDS_NOW_MS = 1_795_357_820_000
"""Of the cases of `sds` (tests/adapters/codecs/test_corpora.py)."""
CHANNELS = {9: "sds1", 10: "sds2", 11: "sds3", 12: "sds4", 13: "status"}
_PLACES = {"RMC": 3, "GGA": 2, "GLL": 1, "GNS": 2}
"""Sentence -> the field in which its latitude stands."""
_HARMLESS = frozenset(
    {*_PLACES, "GSV", "GSA", "VTG", "ZDA", "GST", "HDT", "TXT", "DTM", "GBS", "GRS"}
)
_FIELD = re.compile(r"([0-9]{2,3})([0-9]{2}(?:\.[0-9]*)?)")
_OPTION = re.compile(r"R[0-9]{1,2}|L[^ ]+|O[A-Z0-9]{1,10}|Q[0-9]{1,3}|F")
_KEPT_WORDS = frozenset(
    {
        *("kind", "reason", "book", "state", "privacy", "check", "t", "time", "sex", "type"),
        *("_type", "class", "full", "second", "code", "tst", "conn", "mode", "status"),
    }
)


_FIGURES = frozenset(
    {"speed", "bearing", "heading", "altitude", "accuracy", "hdop", "batt", "battery"}
)
_TIMES = frozenset({"tst", "timestamp", "created_at"})
_LONG = 100_000


class CannotBeMade(Exception):
    """Says which frame, and why; nothing of what it held."""


class Synthetic:
    """What stands for what, of one slice. Equal things stay equal."""

    def __init__(self, shift: tuple[float, float] | None) -> None:
        """shift: of each position; None: all come to lie at HOME."""
        self._shift = shift
        self._known: dict[tuple[str, str], str] = {}
        self.originals: set[str] = set()
        """Of what was replaced: must not be found in what is written."""

    def _as(self, kind: str, original: str, make: Callable[[int], str]) -> str:
        key = kind, original
        if key not in self._known:
            n = sum(1 for of, _ in self._known if of == kind) + 1
            self._known[key] = make(n)
        if kind != "text" and len(original) > 3:
            self.originals.add(original)
        return self._known[key]

    def issi(self, text: str) -> str:
        return self._as("issi", text, lambda n: f"{5001000 + n}")

    def mark(self, text: str) -> str:
        """Age identifier 99, which no vehicle has; as long as it was."""

        def made(n: int) -> str:
            letters = "".join("ABCDEFGHJK"[int(each)] for each in f"{n:03d}")
            return f"TE99{letters}X"[: len(text)]

        return self._as("mark", text, made)

    def vin(self, text: str) -> str:
        return self._as(
            "vin",
            text,
            lambda n: f"TSTZZZ{n:011d}" if len(text) == 17 else f"{n:08d}"[-len(text) :],
        )

    def serial(self, text: str) -> str:
        return self._as(
            "serial", text, lambda n: f"TST{n:0{max(0, len(text) - 3)}d}"[: max(3, len(text))]
        )

    def surname(self, text: str) -> str:
        return self._as("surname", text, lambda n: ("TESTER", "SYNTHA", "O'TESTER")[n % 3 - 1])

    def forenames(self, text: str) -> str:
        return self._as("forenames", text, lambda n: ("NORA", "TED", "ADA", "BETH")[n % 4 - 1])

    def officer(self, text: str) -> str:
        return self._as("officer", text, lambda n: f"{1000 + n}")

    def callsign(self, text: str) -> str:
        return self._as("callsign", text, lambda n: f"E-{100 + n}")

    def device(self, text: str) -> str:
        return self._as("device", text, lambda n: f"TRK{n}")

    def free(self, text: str) -> str:
        """Its form alone."""
        return self._as("text", text, lambda _n: _blotted(text))

    def degrees(self, value: float, which: int) -> float:
        return HOME[which] if self._shift is None else round(value + self._shift[which], 6)

    # ----------------------------------------------------------------- sentences

    def sentence(self, line: str) -> str:
        """Positions shifted; a checksum that was right is right, one that was wrong as wrong."""
        start = line.find("$")
        if start < 0:
            return line
        before, rest = _blotted(line[:start]), line[start + 1 :]
        body, star, claimed = rest.partition("*")
        fields = body.split(",")
        kind = fields[0][-3:]
        if kind in _PLACES:
            at = _PLACES[kind]
            for which in (0, 1):
                place = at + 2 * which
                if place + 1 < len(fields):
                    fields[place : place + 2] = self._moved(fields[place], fields[place + 1], which)
        elif kind == "CCR":  # of T55 trackers, in degrees
            for which, place in ((0, 3), (1, 4)):
                if place < len(fields):
                    fields[place] = self._decimal(fields[place], which)
        elif kind not in _HARMLESS:
            fields[1:] = [re.sub(r"[0-9]", "0", _blotted(each)) for each in fields[1:]]
        made = ",".join(fields)
        if star and re.fullmatch(r"[0-9A-Fa-f]{2}.*", claimed, re.DOTALL):
            fault = int(claimed[:2], 16) ^ _checksum(body)
            claimed = f"{_checksum(made) ^ fault:02X}{_blotted(claimed[2:])}"
        return f"{before}${made}{star}{claimed}"

    def _moved(self, field: str, side: str, which: int) -> tuple[str, str]:
        found = _FIELD.fullmatch(field)
        positive, negative = ("N", "S") if which == 0 else ("E", "W")
        if not field or side not in (positive, negative):
            return re.sub(r"[0-9]", "0", field), side
        if found is None or float(found[2]) >= 60 or not float(field):
            # Damaged, or null island, which is nobody's position.
            return (field if found and not float(field) else re.sub(r"[0-9]", "9", field)), side
        value = int(found[1]) + float(found[2]) / 60
        moved = self.degrees(value if side == positive else -value, which)
        side = positive if moved >= 0 else negative
        whole, minutes = divmod(abs(moved) * 60, 60)
        decimals = len(found[2].partition(".")[2])
        text = f"{minutes:0{3 + decimals if decimals else 2}.{decimals}f}"
        made = f"{int(whole):0{len(found[1])}d}{text}"
        if made != field:
            self.originals.add(field)
        return made, side

    def _decimal(self, text: str, which: int) -> str:
        """A position in degrees, with as many decimals as it had."""
        if not re.fullmatch(r"[+-]?[0-9]{1,3}(?:\.[0-9]+)?", text) or not float(text):
            return text if re.fullmatch(r"[-+0.]*", text) else re.sub(r"[0-9]", "9", text)
        if abs(float(text)) > (90, 180)[which]:
            return text
        decimals = len(text.partition(".")[2])
        made = f"{self.degrees(float(text), which):.{decimals}f}"
        if made != text:
            self.originals.add(text)
        return made

    def tracker(self, line: str) -> str:
        """Of a T55: its number may stand in front, or alone."""
        start = line.find("$")
        head, rest = (line, "") if start < 0 else (line[:start], line[start:])
        head = re.sub(r"[0-9A-Fa-f]{5,}", lambda found: "0" * len(found.group()), head)
        return head + (self.sentence(rest) if rest else "")

    # ----------------------------------------------------------------- what is typed

    def typed(self, text: str) -> str:
        """An enquiry, with another subject."""
        words = text.split()
        parsed = keysds.parse(text)
        if not words or text.lstrip().startswith("#"):
            return text
        match parsed:
            case CheckRequest(key=key):
                return " ".join((words[0], *self._subject(key, words[1:])))
            case BookOn(officer=""):
                return text
            case BookOn() | BookOff():
                return " ".join(self._booking(words))
            case Reasoning():
                return " ".join((*words[:2], self.free(" ".join(words[2:]))))
            case EchoTest():
                return f"{words[0]} {self.free(' '.join(words[1:]))}".rstrip()
            case MalformedCheck():
                known = words[0].upper() in {"V", "T", "VIN", "N", "P", "B", "B+", "PIN", "J"}
                rest = words[1:] if known else words
                return " ".join((*words[: int(known)], *(self._word(each) for each in rest)))
        return text

    def _word(self, word: str) -> str:
        return word if _OPTION.fullmatch(word.upper()) and word[0] in "RrQqFf" else self.free(word)

    def _booking(self, words: list[str]) -> list[str]:
        if len(words) > 1 and words[1].upper() == "OFF":
            return [*words[:2], *(self.officer(each) for each in words[2:])]
        return [words[0], self.officer(words[1]), words[2], *(self.callsign(w) for w in words[3:])]

    def _subject(self, key: object, words: list[str]) -> list[str]:
        at = next(n for n in range(1, len(words)) if re.fullmatch(r"R[0-9]{1,2}", words[n].upper()))
        while at > 1 and _OPTION.fullmatch(words[at - 1].upper()) and words[at - 1][0] in "LlOoQq":
            at -= 1
        options = [self._option(each) for each in words[at:]]
        if "J" in options:
            why = options.index("J") + 1
            options[why:] = [self.free(" ".join(options[why:]))]
        match key:
            case VehicleKey(vrm=vrm) if vrm:
                return [self.mark(vrm), *options]
            case VehicleKey(vin=vin):
                return [self.vin(vin), *options]
            case PropertyKey(type=type_, serial=serial):
                return [f"{type_}/{self.serial(serial)}", *options]
            case PersonKey():
                subject = "/".join(
                    (
                        self.surname(key.surname),
                        self.forenames(key.forenames) if key.forenames else "",
                        "01011970" if key.dob else f"A{key.age_years}" if key.age_years else "",
                        key.sex,
                    )
                )
                return [subject, *options]
        raise CannotBeMade("a question of a kind that has no rule")

    def _option(self, word: str) -> str:
        match word[0].upper():
            case "L":
                return f"L{self.free(word[1:])}"
            case "O":
                return f"O{self.officer(word[1:])}"
        return word

    def line(self, line: str) -> str:
        """Of a line_terminal."""
        if "$" in line:
            return self.sentence(line)
        return line if line.lstrip().startswith("#") else self.typed(line)

    # ----------------------------------------------------------------- JSON

    def value(self, name: str, value: object) -> object:
        """A member by its name; what has no rule keeps its form alone."""
        match name, value:
            case ("lat" | "lon" | "latitude" | "longitude", int() | float()) if not isinstance(
                value, bool
            ):
                which = int(name.startswith("lon"))
                inside = abs(value) <= (90, 180)[which] and value
                moved = self.degrees(float(value), which) if inside else value
                if moved != value:
                    self.originals.add(repr(value))
                return moved
            case ("ecefx" | "ecefy" | "ecefz", _):
                return 0.0
            case (_, dict()):
                return {str(key): self.value(str(key), each) for key, each in value.items()}
            case (_, list()):
                return [self.value(name, each) for each in value]
            case (_, str()):
                return self._said(name, str(value))
            case (_, int() | float()) if name not in _TIMES and abs(value) >= _LONG:
                return 0  # somebody's number, for all that we know
        return value

    def _said(self, name: str, text: str) -> str:
        rules: dict[str, Callable[[str], str]] = {
            "issi": self.issi,
            "vrm": self.mark,
            "vin": self.vin,
            "serial": self.serial,
            "surname": self.surname,
            "forenames": self.forenames,
            "officer": self.officer,
            "callsign": self.callsign,
            "device_id": self.device,
            "dob": lambda text: self._as("dob", text, lambda _n: "1970-01-01"),
        }
        if name in _KEPT_WORDS or not text:
            return text
        return rules.get(name, self.free)(text)

    def json(self, data: bytes) -> bytes:
        try:
            raw = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return blotted(data)
        return msgspec.json.encode(self.value("", raw))

    def query(self, data: bytes) -> bytes:
        """Of a tracker's address."""
        try:
            pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            return blotted(data)
        return urlencode([(name, self._parameter(name, value)) for name, value in pairs]).encode()

    def _parameter(self, name: str, value: str) -> str:
        match name:
            case "id" | "deviceid" | "device_id":
                return self.device(value) if value else value
            case "lat" | "lon":
                return self._decimal(value.strip(), int(name == "lon"))
            case "location":
                lat, comma, lon = value.partition(",")
                return f"{self._decimal(lat, 0)}{comma}{self._decimal(lon, 1)}"
            case "timestamp" | "alarm" | "valid" | "mock":
                return value
        figure = re.fullmatch(r"-|[-+0-9.eE]+", value) and name in _FIGURES
        return value if figure or not value else self.free(value)

    def json_line(self, line: str) -> str:
        return self.json(line.encode("latin-1")).decode("latin-1")

    @property
    def left(self) -> set[str]:
        """What must be found no more: what was replaced and stands for nothing itself."""
        return self.originals - set(self._known.values())

    # ----------------------------------------------------------------- TETRA

    def sds(self, data: bytes) -> bytes:
        pid = data[0] if data else 0
        if pid == 0x0A:
            return self._lip(data)
        if pid in (0x02, 0x09):
            return data[:1] + self._coded(data[1:])
        if pid == 0x03:
            return data[:1] + self._location(data[1:])
        if pid in (0x82, 0x83, 0x89):
            try:
                pdu = sds_pdu.read(data)
            except sds_pdu.Wrong:
                return data
            if isinstance(pdu, sds_pdu.Transfer):
                head = data[: len(data) - len(pdu.data)]
                body = self._location(pdu.data) if pid == 0x83 else self._coded(pdu.data)
                return head + body
        return data  # a report, or what the recording has blotted out already

    def _coded(self, data: bytes) -> bytes:
        start = 4 if data[:1] and data[0] & 0x80 else 1
        if len(data) <= start:
            return data
        text = sds_text.undecorated(sds_text.decoded(data[0] & 0x7F, data[start:]))
        return data[:start] + sds_text.encoded(self.typed(text), (data[0] & 0x7F,))[1]

    def _location(self, data: bytes) -> bytes:
        if data[:1] != b"\0":
            return data[:1] + bytes(len(data[1:]))
        lines = re.sub(r"[^\r\n]+", lambda f: self.sentence(f.group()), data[1:].decode("latin-1"))
        return data[:1] + lines.encode("latin-1")

    def _lip(self, data: bytes) -> bytes:
        """A short report: longitude and latitude are at fixed bits behind the PID."""
        bits = int.from_bytes(data[1:], "big")
        size = 8 * len(data[1:])
        if size < 53 or bits >> size - 2:
            raise CannotBeMade("a location report of a long form")
        for at, wide, which, whole in ((4, 25, 1, 360.0), (29, 24, 0, 180.0)):
            shift = size - at - wide
            value = bits >> shift & (1 << wide) - 1
            to = 0 if self._shift is None else value
            way = HOME[which] if self._shift is None else self._shift[which]
            moved = to + round(way / whole * (1 << wide))
            bits += ((moved & (1 << wide) - 1) - value) << shift
        return data[:1] + bits.to_bytes(len(data[1:]), "big")


def _checksum(body: str) -> int:
    total = 0
    for each in body:
        total ^= ord(each) & 0xFF
    return total


def _blotted(text: str) -> str:
    return blotted(text.encode("utf-8", "replace")).decode("utf-8", "replace")


# --------------------------------------------------------------------------- cases


def cases(heard: Sequence[Heard], codec: str, name: str, source: str) -> list[dict[str, Any]]:
    """The lines of the corpus's file. heard: of one link. Raises CannotBeMade."""
    if codec not in MAKERS:
        raise CannotBeMade(f"no rule for {codec}; there is one for {', '.join(sorted(MAKERS))}")
    found = []
    makers = [(original.decided(), make) for original, make in MAKERS[codec](heard)]
    shift = _shift([each for before, _ in makers for each in before])
    for n, (before, make) in enumerate(makers, 1):
        synthetic = Synthetic(shift)
        made = make(synthetic)
        after = made.decided()
        if _signature(before) != _signature(after):
            raise CannotBeMade(f"case {n}: the codec would decide otherwise")
        body = {"id": f"{name}-{n}", "source": source, **made.body}
        body["expect"] = [_expected(each) for each in after]
        told = msgspec.json.encode(body).decode()
        for each in synthetic.left:
            if each in told:
                raise CannotBeMade(f"case {n}: something of the original would be left in it")
        found.append(body)
    if not found:
        raise CannotBeMade("nothing was heard in that slice")
    return found


class Case:
    """A body as the corpus has it, and how its codec reads it."""

    def __init__(self, body: dict[str, Any], decide: Callable[[], list[Decoded]]) -> None:
        self.body = body
        self.decided = decide


Made = tuple[Case, Callable[[Synthetic], Case]]


def _line_terminal(heard: Sequence[Heard]) -> Iterator[Made]:
    data = b"".join(each.data for each in heard).decode("latin-1")
    now_ms = heard[0].at_ms if heard else 0

    def case(text: str) -> Case:
        codec, octets = codecs.create("line_terminal", side="gateway"), text.encode("latin-1")
        said = {"data": text} if text.isascii() else {"hex": octets.hex()}
        return Case(
            {"now": _moment(now_ms), "side": "gateway", **said},
            lambda: list(codec.feed(octets, received_at_ms=now_ms)),
        )

    def made(synthetic: Synthetic) -> Case:
        return case(re.sub(r"[^\r\n]+", lambda found: synthetic.line(found.group()), data))

    if data:
        yield case(data), made


def _in_steps(codec: str, rewrite: str) -> Callable[[Sequence[Heard]], Iterator[Made]]:
    """Lines, each with when it was whole."""

    def makers(heard: Sequence[Heard]) -> Iterator[Made]:
        steps = [(at_ms, line) for at_ms, line in _lines(heard)]

        def case(lines: Sequence[tuple[int, str]]) -> Case:
            made = codecs.create(codec)

            def decided() -> list[Decoded]:
                out: list[Decoded] = []
                for at_ms, line in lines:
                    out += made.feed(f"{line}\r\n".encode("latin-1"), received_at_ms=at_ms)
                return out

            body: list[dict[str, Any]] = []
            for at_ms, line in lines:
                if body and body[-1]["now"] == _moment(at_ms):
                    body[-1]["lines"].append(line)
                else:
                    body.append({"now": _moment(at_ms), "lines": [line]})
            return Case({"steps": body} if len(body) > 1 else body[0], decided)

        def again(synthetic: Synthetic) -> Case:
            change = getattr(synthetic, rewrite)
            return case([(at_ms, change(line)) for at_ms, line in steps])

        if steps:
            yield case(steps), again

    return makers


def _lines(heard: Sequence[Heard]) -> Iterator[tuple[int, str]]:
    held = ""
    for each in heard:
        *whole, held = (held + each.data.decode("latin-1").replace("\r", "\n")).split("\n")
        for line in whole:
            if line:
                yield each.at_ms, line


def _terminal_json(heard: Sequence[Heard]) -> Iterator[Made]:
    for each in heard:
        _, _, topic = each.channel.partition(":")
        parts = topic.split("/", 2)
        if len(parts) < 3:
            continue
        channel, at_ms = parts[2], each.at_ms

        def case(data: bytes, channel: str = channel, at_ms: int = at_ms, issi: str = "") -> Case:
            codec = codecs.create("terminal_json", identity=issi)
            body: dict[str, Any] = {"now": _moment(at_ms), "channel": channel}
            try:
                body["payload"] = data.decode()
            except UnicodeDecodeError:
                body["hex"] = data.hex()
            return Case(body, lambda: list(codec.feed(data, received_at_ms=at_ms, channel=channel)))

        def again(
            synthetic: Synthetic,
            data: bytes = each.data,
            case: Callable[..., Case] = case,
            channel: str = channel,
            issi: str = parts[1],
        ) -> Case:
            assert synthetic.issi(issi) == "5001001"  # the corpus's own, and the first there is
            match channel:
                case "up/text":
                    try:
                        made = synthetic.typed(data.decode()).encode()
                    except UnicodeDecodeError:
                        made = blotted(data)
                case "up/nmea":
                    lines = data.decode("latin-1")
                    made = re.sub(
                        r"[^\r\n]+", lambda found: synthetic.sentence(found.group()), lines
                    ).encode("latin-1")
                case _:
                    made = synthetic.json(data)
            return case(made, issi="5001001")

        yield case(each.data, issi=parts[1]), again


def _sds(heard: Sequence[Heard]) -> Iterator[Made]:
    """Of a radio's line: what each calling party sent, one case each."""
    pei = TetraPei()
    parties: dict[str, list[tuple[str, bytes]]] = {}
    for each in heard:
        for event in pei.feed(each.data, each.mono_us / 1e6):
            if isinstance(event, PeiSds) and event.ai_service in CHANNELS:
                sent = parties.setdefault(event.calling, [])
                sent.append((CHANNELS[event.ai_service], event.payload))
    for pdus in parties.values():

        def case(pdus: Sequence[tuple[str, bytes]] = pdus) -> Case:
            codec: Any = codecs.create("sds")
            found: list[Decoded] = []
            owed: list[str] = []
            for channel, data in pdus:
                found += codec.feed(data, received_at_ms=SDS_NOW_MS, channel=channel)
                owed += [each.data.hex().upper() for each in codec.replies()]
            body = [{"channel": channel, "hex": data.hex().upper()} for channel, data in pdus]
            return Case({"pdus": body, "replies": owed}, lambda: found)

        def again(
            synthetic: Synthetic,
            pdus: Sequence[tuple[str, bytes]] = pdus,
            case: Callable[..., Case] = case,
        ) -> Case:
            return case(
                [(ch, data if ch == "status" else synthetic.sds(data)) for ch, data in pdus]
            )

        yield case(), again


def _owntracks(heard: Sequence[Heard]) -> Iterator[Made]:
    for each in heard:
        who = "/".join(each.channel.partition(":")[2].split("/")[1:])

        def case(data: bytes, at_ms: int = each.at_ms, who: str = "nora/phone") -> Case:
            codec = codecs.create("owntracks", identity=who)
            said = {"payload": data.decode()} if data.isascii() else {"hex": data.hex()}
            return Case(
                {"now": _moment(at_ms), **said},
                lambda: list(codec.feed(data, received_at_ms=at_ms)),
            )

        def again(
            synthetic: Synthetic, data: bytes = each.data, case: Callable[..., Case] = case
        ) -> Case:
            return case(synthetic.json(data))

        yield case(each.data, who=who), again


def _osmand(heard: Sequence[Heard]) -> Iterator[Made]:
    for each in heard:

        def case(data: bytes, at_ms: int = each.at_ms, channel: str = each.channel) -> Case:
            codec: Any = codecs.create("osmand")
            said = codec.read(data, received_at_ms=at_ms, channel=channel)
            told = {"payload": data.decode()} if data.isascii() else {"hex": data.hex()}
            body = {"now": _moment(at_ms), "channel": channel, **told, "device": said.device}
            return Case(body, lambda: list(said.decoded))

        def again(
            synthetic: Synthetic,
            data: bytes = each.data,
            channel: str = each.channel,
            case: Callable[..., Case] = case,
        ) -> Case:
            return case(synthetic.json(data) if channel == "json" else synthetic.query(data))

        yield case(each.data), again


MAKERS: dict[str, Callable[[Sequence[Heard]], Iterator[Made]]] = {
    "line_terminal": _line_terminal,
    "nmea0183": _in_steps("nmea0183", "sentence"),
    "gpsd_json": _in_steps("gpsd_json", "json_line"),
    "osmand": _osmand,
    "owntracks": _owntracks,
    "sds": _sds,
    "t55": _in_steps("t55", "tracker"),
    "terminal_json": _terminal_json,
}


def _shift(decoded: Sequence[Decoded]) -> tuple[float, float] | None:
    """From the first position to HOME. A position that cannot be read tells of no way, and may
    still be one."""
    first = next((each for each in decoded if isinstance(each, LocationFix)), None)
    if first is None:
        first = next(
            (each.fix for each in decoded if isinstance(each, CheckRequest) and each.fix), None
        )
    return None if first is None else (HOME[0] - first.lat, HOME[1] - first.lon)


def _signature(decoded: Sequence[Decoded]) -> list[tuple[str, str]]:
    return [
        (
            type(each).__name__,
            str(getattr(each, "reason", ""))
            or str(getattr(each, "code", ""))
            or str(getattr(each, "type", "")),
        )
        for each in decoded
    ]


def _expected(each: Decoded) -> dict[str, Any]:
    """As tests/corpus has it: the word for it, and the members that matter."""
    tag = str(each.__struct_config__.tag)
    match each:
        case BadFrame(reason=reason):
            return {"is_": "rejected", "reason": reason}
        case Ignored(type=what):
            return {"is_": "ignored", "type": what}
        case LocationFix():
            at = each.fixed_at_ms
            moment = {} if each.reckoned else {"t": None if at is None else _moment(at)}
            return {"is_": "fix", "lat": each.lat, "lon": each.lon, **moment}
        case CheckRequest(key=key):
            members = {name: getattr(key, name) for name in key.__struct_fields__}
            known = {name: value for name, value in members.items() if value not in ("", None)}
            return {"is_": "check", "kind": kind_of(key).value, **known, "reason": each.reason}
        case MalformedCheck():
            return {"is_": "malformed", "why": each.why}
        case StatusReport():
            return {"is_": "status", "code": each.code}
        case DeliveryAck():
            return {"is_": "ack", "check": each.check, "part": each.part}
        case BookOn():
            return {"is_": "book_on", "officer": each.officer, "factor": each.factor.reveal()}
        case BookOff():
            return {"is_": "book_off", "officer": each.officer}
        case Heartbeat():
            return {"is_": "heartbeat"}
    return {"is_": tag}


def _moment(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
