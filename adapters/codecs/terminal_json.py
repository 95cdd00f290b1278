"""The MQTT payloads of docs/interfaces.md, one datagram at a time.

The size and the nesting are bounded before anything is parsed. What is no JSON, or claims another
identity, is a bad frame; what is JSON but no question that can be asked is a MalformedCheck, so
that the officer is told what to do. A position that comes along never costs the question: one that
is no position is a bad frame beside it. No error text ever quotes the payload.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TypeVar

import msgspec

from adapters.codecs import keysds, wire
from adapters.codecs.nmea0183 import Nmea0183
from gateway.messages import (
    AckState,
    BadFrame,
    BookOff,
    BookOn,
    CheckRequest,
    Decoded,
    DeliveryAck,
    DriverKey,
    FixSource,
    Frame,
    Key,
    Kind,
    LocationFix,
    MalformedCheck,
    Message,
    Notice,
    Outcome,
    PersonKey,
    Privacy,
    PropertyKey,
    Receipt,
    Result,
    SourceSaid,
    StatusReport,
    VehicleKey,
)

NESTING_MAX = 16
NAME_MAX = 300
"""As sent; the name itself is judged by keysds.is_name."""
TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z")
YEARS = (1970, 2100)
"""What a moment may be of: rounded to its millisecond, the last of 9999 is one that no date has."""
_KINDS = frozenset(Kind)
_REF = re.compile(r"[!-~]{1,32}")
_CHECK_ID = re.compile(r"[0-9A-Z]{4,40}")
_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}|[A-HJ-NPR-Z0-9]{5,8}")
_BEYOND = re.compile(r"Expected `(?:float|int)` [<>]=|(?:Number|Integer value) out of range")
"""How msgspec says that a number is one, but not where it may be."""

W = TypeVar("W", bound=msgspec.Struct)


class TerminalJson:
    """gateway.ports.Codec. channel: the topic below `radio/{issi}/`. identity: that ISSI."""

    def __init__(
        self, *, side: str = "gateway", identity: str = "", max_payload: int = 16384
    ) -> None:
        self._side = side
        self._identity = identity
        self._max_payload = max_payload

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """One datagram is one message, and a check may bring a bad fix along; `up/nmea` may hold
        several. Never raises on content."""
        if len(data) > self._max_payload:
            return (BadFrame("length"),)
        if not channel.startswith("down/" if self._side == "terminal" else "up/"):
            return (BadFrame("decode"),)
        match channel:
            case "up/nmea":
                line = Nmea0183()
                return line.feed(data + b"\n", received_at_ms=received_at_ms)
            case "up/text":
                return (_typed(data),)
        if not data or too_deep(data):
            return (BadFrame("decode"),)
        try:
            match channel:
                case "up/check":
                    return self._check(data)
                case "up/fix":
                    return (self._fix(data),)
                case "up/status":
                    return (self._status(data),)
                case "up/ack":
                    return (self._ack(data),)
                case "down/receipt" | "down/result" | "down/notice":
                    return (_down(channel, data),)
                case _:
                    return (BadFrame("decode"),)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, _Wrong):
            return (BadFrame("identity" if self._names_another(data) else "decode"),)

    # ----------------------------------------------------------------- up

    def _own(self, issi: object) -> bool:
        """A payload may repeat the identity of its topic; it may not name another."""
        return issi is None or issi == self._identity

    def _names_another(self, data: bytes) -> bool:
        """Of what could not be read otherwise: a forged identity is told from mere nonsense."""
        try:
            raw = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        return isinstance(raw, dict) and not self._own(raw.get("issi"))

    def _fix(self, data: bytes) -> Decoded:
        try:
            fix = _decode(data, wire.Fix)
        except msgspec.ValidationError as error:
            if self._names_another(data):
                return BadFrame("identity")
            return BadFrame(_fix_fault(error))
        return _location(fix) if self._own(fix.issi) else BadFrame("identity")

    def _status(self, data: bytes) -> Decoded:
        """A status is one whatever else stands in it: an emergency must not fail for another
        member."""
        which = _decode(data, wire.WhichStatus)
        if which.code is msgspec.UNSET and which.book is not msgspec.UNSET:
            return self._book(data)
        if which.code is msgspec.UNSET and which.privacy is not msgspec.UNSET:
            spoken = _decode(data, wire.FreeToSpeak)
            if not self._own(spoken.issi):
                return BadFrame("identity")
            if spoken.privacy not in ("free", "not_free"):
                return BadFrame("decode")
            return Privacy(free=spoken.privacy == "free", check=spoken.check)
        status = _decode(data, wire.Status)
        return StatusReport(code=status.code) if self._own(status.issi) else BadFrame("identity")

    def _book(self, data: bytes) -> Decoded:
        book = msgspec.json.decode(data, type=wire.Book, dec_hook=wire.secret)
        if not self._own(book.issi):
            return BadFrame("identity")
        if _given_twice(data) is not None or "\n" in book.officer + book.callsign:
            return BadFrame("decode")
        if book.book == "off":
            return BookOff(officer=book.officer)
        if book.book != "on" or book.factor is None or book.t is None:
            return BadFrame("decode")
        return BookOn(
            officer=book.officer,
            factor=book.factor,
            callsign=book.callsign,
            second=book.second,
            sent_at_ms=moment_ms(book.t),
        )

    def _ack(self, data: bytes) -> Decoded:
        ack = _decode(data, wire.Ack)
        if not self._own(ack.issi):
            return BadFrame("identity")
        if ack.state not in set(AckState) or not _CHECK_ID.fullmatch(ack.check):
            return BadFrame("decode")
        return DeliveryAck(check=ack.check, part=ack.part, state=AckState(ack.state))

    def _check(self, data: bytes) -> Sequence[Decoded]:
        raw = msgspec.json.decode(data)
        if not isinstance(raw, dict):
            return (BadFrame("decode"),)
        along = raw.pop("fix", None)
        if not self._own(raw.get("issi")):
            return (BadFrame("identity"),)
        if isinstance(along, dict) and not self._own(along.get("issi")):
            return (BadFrame("identity"),)
        ref, kind = _told(raw)
        if (twice := _given_twice(data)) is not None:
            if twice == "issi":
                return (BadFrame("identity"),)
            # Which of the two was meant nobody can say.
            ref = "" if twice == "ref" else ref
            return (MalformedCheck(why="MEMBER GIVEN TWICE", ref=ref, kind=kind),)
        fix = None if along is None else _along(along)
        bad = (fix,) if isinstance(fix, BadFrame) else ()
        try:
            check = msgspec.convert(raw, wire.Check)
            return (_request(check, None if isinstance(fix, BadFrame) else fix), *bad)
        except msgspec.ValidationError as error:
            return (MalformedCheck(why=_missing(error), ref=ref, kind=kind), *bad)
        except _Wrong as wrong:
            return (MalformedCheck(why=str(wrong), ref=ref, kind=kind), *bad)

    # ----------------------------------------------------------------- out

    def encode(self, message: Message) -> Sequence[Frame]:
        """The payload that says this message; () when there is no word for it here."""
        if self._side == "terminal":
            return _up(message)
        match message:
            case Receipt():
                body: msgspec.Struct = wire.DownReceipt(
                    ref=message.ref,
                    check=message.check,
                    short=message.short,
                    accepted=message.accepted,
                    why=message.why,
                    client_ref=message.client_ref,
                )
                return (Frame(data=msgspec.json.encode(body), channel="down/receipt"),)
            case Result():
                return (Frame(data=msgspec.json.encode(_result(message)), channel="down/result"),)
            case Notice():
                body = wire.DownNotice(
                    kind=message.kind,
                    text=message.text,
                    check=message.check,
                    short=message.short,
                    danger=list(message.danger),
                    id=message.id,
                )
                return (Frame(data=msgspec.json.encode(body), channel="down/notice"),)
            case _:
                return ()


class _Wrong(Exception):
    """Says what to do; never quotes."""


def too_deep(data: bytes) -> bool:
    """Whether brackets nest deeper than NESTING_MAX; one pass, strings minded."""
    if data.count(b"[") + data.count(b"{") <= NESTING_MAX:
        return False
    depth, in_string, escaped = 0, False, False
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            if depth > NESTING_MAX:
                return True
        elif byte in (0x5D, 0x7D):
            depth -= 1
    return False


def _decode(data: bytes, type_: type[W]) -> W:
    return msgspec.json.decode(data, type=type_)


def _typed(data: bytes) -> Decoded:
    try:
        return keysds.parse(data.decode("utf-8"))
    except UnicodeDecodeError:
        # No noise comes over a broker: somebody asked, with a terminal that writes otherwise.
        return MalformedCheck(why=keysds.BAD_CHARACTER, typed=True)


class _Twice(Exception):
    def __init__(self, name: str) -> None:
        super().__init__("twice")
        self.name = name


def _each_once(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _Twice(name)
        seen.add(name)


def _given_twice(data: bytes) -> str | None:
    """The first member that stands twice in one object; None when none does. data: read before.

    msgspec takes the last one, other readers the first: an officer could be shown the answer about
    a mark that somebody else's screen never named.
    """
    try:
        json.loads(
            data.decode("utf-8"), object_pairs_hook=_each_once, parse_int=str, parse_float=str
        )
    except _Twice as twice:
        return twice.name
    except ValueError:
        # Two readers that do not agree whether it is JSON at all: then it is none.
        raise _Wrong("BAD CHECK") from None
    return None


def _told(raw: dict[str, object]) -> tuple[str, Kind | None]:
    """What of a faulty check is good enough to answer it by."""
    ref, kind = raw.get("ref"), raw.get("kind")
    usable = isinstance(ref, str) and _REF.fullmatch(ref)
    known = isinstance(kind, str) and kind in _KINDS
    return (str(ref) if usable else ""), (Kind(str(kind)) if known else None)


def _missing(error: msgspec.ValidationError) -> str:
    """Which member is wrong, from the error's path only (its words may quote)."""
    text = str(error)
    found = re.search(r"`\$\.([a-z_]{1,20})", text) or re.search(
        r"missing required field `([a-z_]{1,20})`", text
    )
    known = {field.encode_name for field in msgspec.structs.fields(wire.Check)}
    name = found.group(1) if found and found.group(1) in known else "CHECK"
    return f"BAD {name.upper()}"


def moment_ms(text: str) -> int:
    """ISO 8601 with Z to milliseconds; raises for anything else, a naive time included.

    Up to nine digits of a second: some clocks write nanoseconds.
    """
    found = TIME.fullmatch(text)
    if found is None:
        raise _Wrong("BAD T. USE UTC WITH Z")
    try:
        moment = datetime.fromisoformat(found.group(1)).replace(tzinfo=UTC)
    except ValueError:
        raise _Wrong("BAD T. USE UTC WITH Z") from None
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise _Wrong("BAD T. USE UTC WITH Z")
    micros = int((found.group(2) or "0").ljust(6, "0")[:6])
    return round(moment.timestamp()) * 1000 + round(micros / 1000)


def moment_text(ms: int) -> str:
    return f"{_second_text(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    return f"{datetime.fromtimestamp(second, tz=UTC):%Y-%m-%dT%H:%M:%S}"


def _fix_fault(error: msgspec.ValidationError) -> str:
    """Which of the declared reasons: nothing there, beyond what can be, or no fix at all."""
    text = str(error)
    if "got `null`" in text:
        return "void"
    return "range" if _BEYOND.match(text) else "decode"


def _along(raw: object) -> LocationFix | BadFrame:
    """The position that came with a question."""
    try:
        return _location(msgspec.convert(raw, wire.Fix))
    except msgspec.ValidationError as error:
        return BadFrame(_fix_fault(error))


def _location(fix: wire.Fix) -> LocationFix | BadFrame:
    try:
        fixed_at_ms = moment_ms(fix.t) if fix.t is not None else None
    except _Wrong:
        return BadFrame("date")
    return LocationFix(
        lat=fix.lat,
        lon=fix.lon,
        fixed_at_ms=fixed_at_ms,
        speed_mps=fix.speed_mps,
        course_deg=None if fix.course_deg is None else fix.course_deg % 360,
        accuracy_m=fix.accuracy_m,
        source=FixSource.GNSS,
    )


def _request(check: wire.Check, fix: LocationFix | None) -> CheckRequest:
    if not _REF.fullmatch(check.ref):
        # The schema's `$` lets a line feed pass behind it; a reference goes back onto screens.
        raise _Wrong("BAD REF")
    if check.kind not in _KINDS:
        raise _Wrong("BAD KIND")
    reason = _line(check.reason, "REASON", 16)
    if not reason:
        raise _Wrong("BAD REASON")
    return CheckRequest(
        key=_key(Kind(check.kind), check),
        reason=reason,
        ref=check.ref,
        sent_at_ms=moment_ms(check.t),
        justification=_line(check.justification, "JUSTIFICATION", 250),
        location=_line(check.location, "LOCATION", 40),
        fix=fix,
        full=check.full,
        scope=_scope(check),
    )


def _scope(check: wire.Check) -> str:
    """What the register can be asked: one vehicle by its mark."""
    if check.scope is None:
        return ""
    if check.scope != "status" or check.kind != Kind.VEHICLE.value or check.vrm is None:
        raise _Wrong("BAD SCOPE. STATUS OF A VRM")
    return check.scope


def _key(kind: Kind, check: wire.Check) -> Key:
    match kind:
        case Kind.VEHICLE:
            return _vehicle(check)
        case Kind.PERSON:
            return _person(check)
        case Kind.DRIVER:
            number = re.sub(r"[ -]", "", _upper(check.driver_no or ""))
            if number:
                if not re.fullmatch(r"[A-Z0-9]{16}", number):
                    raise _Wrong("BAD DRIVER_NO")
                return DriverKey(driver_no=number)
            person = _person(check)
            if not person.dob:
                raise _Wrong("DRIVER: GIVE DRIVER_NO OR NAME AND DOB")
            return DriverKey(surname=person.surname, forenames=person.forenames, dob=person.dob)
        case Kind.PROPERTY:
            kind_text = _upper(_line(check.type or "", "TYPE", 40))
            serial = re.sub(r"[ .\-]", "", _upper(_line(check.serial or "", "SERIAL", 60)))
            if not re.fullmatch(r"[A-Z0-9 ]{2,40}", kind_text):
                raise _Wrong("BAD TYPE")
            if not re.fullmatch(r"[A-Z0-9/]{3,30}", serial):
                raise _Wrong("BAD SERIAL")
            return PropertyKey(type=kind_text, serial=serial)


def _vehicle(check: wire.Check) -> VehicleKey:
    if (check.vrm is None) == (check.vin is None):
        raise _Wrong("GIVE VRM OR VIN")
    if check.vin is not None:
        vin = re.sub(r"[ -]", "", _upper(check.vin))
        if not _VIN.fullmatch(vin):
            raise _Wrong("BAD VIN. 17 OR LAST 5-8")
        return VehicleKey(vin=vin)
    mark = re.sub(r"[ .\-]", "", _upper(check.vrm or ""))
    if not re.fullmatch(r"[A-Z0-9]{1,10}", mark):
        raise _Wrong("BAD VRM")
    return VehicleKey(vrm=mark)


def _person(check: wire.Check) -> PersonKey:
    surname, forenames = _name(check.surname or ""), _name(check.forenames or "")
    if not surname:
        raise _Wrong("GIVE SURNAME")
    sex = (check.sex or "").upper()
    if sex not in {"", "M", "F", "U"}:
        raise _Wrong("BAD SEX. M F OR U")
    dob = check.dob or ""
    if dob:
        try:
            if date.fromisoformat(dob).isoformat() != dob or dob[:2] not in {"18", "19", "20"}:
                raise ValueError
        except ValueError:
            raise _Wrong("BAD DOB. YYYY-MM-DD") from None
    if not (forenames or dob or sex or check.age is not None):
        raise _Wrong("NAME ALONE: ADD FORENAME, DOB OR SEX")
    return PersonKey(surname=surname, forenames=forenames, dob=dob, age_years=check.age, sex=sex)


def _upper(text: str) -> str:
    """Only ASCII is folded: a Cyrillic A, or what folds to one (the long s), is told of."""
    return text.upper() if text.isascii() else text


def _name(text: str) -> str:
    folded = _line(text, "NAME", NAME_MAX).upper()
    # Again, because capitals may come apart: U+0390 has none of its own.
    name = " ".join(unicodedata.normalize("NFC", folded).split())
    if name and not keysds.is_name(name):
        raise _Wrong("BAD NAME")
    return name


def _line(text: str, what: str, most: int) -> str:
    """One line without controls or direction marks."""
    if text.isascii() and text.isprintable():
        folded = text.strip()
        if len(folded) > most:
            raise _Wrong(f"BAD {what}")
        return folded
    folded = unicodedata.normalize("NFC", text).strip()
    if len(folded) > most or any(unicodedata.category(each) in keysds.FORBIDDEN for each in folded):
        raise _Wrong(f"BAD {what}")
    return folded


# --------------------------------------------------------------------------- the other side


def _result(message: Result) -> wire.DownResult:
    return wire.DownResult(
        ref=message.ref,
        check=message.check,
        short=message.short,
        outcome=message.outcome.value,
        cls=message.result_class,
        danger=list(message.danger),
        pages=list(message.pages),
        fields=message.fields,
        not_checked=list(message.not_checked),
        as_of=moment_text(message.as_of_ms),
        level=message.level,
        marking=message.marking,
        synthetic=message.synthetic,
        receipt=message.receipt,
        why=message.why,
        client_ref=message.client_ref,
        parent=message.parent,
        sources=[
            wire.DownSource(
                source=each.source,
                state=each.state,
                as_of=moment_text(each.as_of_ms) if each.as_of_ms else "",
            )
            for each in message.sources
        ],
    )


def _down(channel: str, data: bytes) -> Decoded:
    match channel:
        case "down/receipt":
            receipt = _decode(data, wire.DownReceipt)
            return Receipt(
                ref=receipt.ref,
                check=receipt.check,
                short=receipt.short,
                accepted=receipt.accepted,
                why=receipt.why,
                client_ref=receipt.client_ref,
            )
        case "down/result":
            result = _decode(data, wire.DownResult)
            if result.outcome not in set(Outcome):
                return BadFrame("decode")
            return Result(
                ref=result.ref,
                check=result.check,
                short=result.short,
                outcome=Outcome(result.outcome),
                result_class=result.cls,
                danger=tuple(result.danger),
                pages=tuple(result.pages),
                texts=(),
                fields=result.fields,
                not_checked=tuple(result.not_checked),
                as_of_ms=moment_ms(result.as_of),
                level=result.level,
                receipt=result.receipt,
                marking=result.marking,
                synthetic=result.synthetic,
                why=result.why,
                client_ref=result.client_ref,
                parent=result.parent,
                sources=tuple(
                    SourceSaid(each.source, each.state, moment_ms(each.as_of) if each.as_of else 0)
                    for each in result.sources
                ),
            )
        case _:
            notice = _decode(data, wire.DownNotice)
            return Notice(
                kind=notice.kind,
                text=notice.text,
                check=notice.check,
                short=notice.short,
                danger=tuple(notice.danger),
                id=notice.id,
            )


def _up(message: Message) -> Sequence[Frame]:
    match message:
        case BookOn(sent_at_ms=int()):
            return (Frame(data=_wire_book(message), channel="up/status"),)
        case Privacy(free=free, check=check):
            said = wire.FreeToSpeak(privacy="free" if free else "not_free", check=check)
            return (Frame(data=msgspec.json.encode(said), channel="up/status"),)
    if (text := keysds.written(message)) is not None:
        return (Frame(data=text.encode(), channel="up/text"),)
    match message:
        case CheckRequest():
            return (Frame(data=msgspec.json.encode(_wire_check(message)), channel="up/check"),)
        case LocationFix():
            body: msgspec.Struct = _wire_fix(message)
            return (Frame(data=msgspec.json.encode(body), channel="up/fix", qos=0),)
        case StatusReport():
            body = wire.Status(code=message.code)
            return (Frame(data=msgspec.json.encode(body), channel="up/status"),)
        case DeliveryAck():
            body = wire.Ack(check=message.check, part=message.part, state=message.state.value)
            return (Frame(data=msgspec.json.encode(body), channel="up/ack"),)
        case _:
            return ()


def _wire_fix(fix: LocationFix) -> wire.Fix:
    return wire.Fix(
        lat=fix.lat,
        lon=fix.lon,
        t=None if fix.fixed_at_ms is None else moment_text(fix.fixed_at_ms),
        speed_mps=fix.speed_mps,
        course_deg=fix.course_deg,
        accuracy_m=fix.accuracy_m,
    )


def _wire_book(message: BookOn) -> bytes:
    """The one place where a factor is written, and the terminal's side alone writes it."""
    body = {
        "book": "on",
        "officer": message.officer,
        "factor": message.factor.reveal(),
        "callsign": message.callsign,
        "second": message.second,
        "t": moment_text(message.sent_at_ms or 0),
    }
    return msgspec.json.encode({name: value for name, value in body.items() if value})


def _wire_check(request: CheckRequest) -> wire.Check:
    body = wire.Check(
        ref=request.ref,
        t=moment_text(request.sent_at_ms or 0),
        kind="",
        reason=request.reason,
        justification=request.justification,
        location=request.location,
        full=request.full,
        scope=request.scope or None,
        fix=None if request.fix is None else _wire_fix(request.fix),
    )
    match request.key:
        case VehicleKey(vrm=vrm, vin=vin):
            body.kind, body.vrm, body.vin = "vehicle", vrm or None, vin or None
        case PersonKey() as person:
            body.kind, body.surname = "person", person.surname
            body.forenames, body.dob = person.forenames or None, person.dob or None
            body.sex, body.age = person.sex or None, person.age_years
        case DriverKey() as driver:
            body.kind, body.driver_no = "driver", driver.driver_no or None
            body.surname, body.forenames = driver.surname or None, driver.forenames or None
            body.dob = driver.dob or None
        case PropertyKey(type=type_, serial=serial):
            body.kind, body.type, body.serial = "property", type_, serial
    return body
