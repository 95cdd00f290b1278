"""The whole vocabulary: what terminals say, what is said to them, what the control room hears.

Every value is frozen, so it may be shared between tasks. Wall times are integer milliseconds
since the epoch, UTC (`..._ms`); durations are float seconds (`..._s`) on the monotonic clock.
An ISSI is text of 1 to 8 digits (docs/interfaces.md); it names a radio, never a person.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import msgspec

Issi = str


class Value(msgspec.Struct, frozen=True, tag_field="@"):
    """A message: immutable, comparable, cheap."""


class Secret:
    """A PIN, password or token, from the byte on: no text of a value, a log or a row shows it.

    Nothing encodes it (msgspec refuses a class it does not know), nothing hashes it; only
    `reveal` gives it away, to whatever checks it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        """In equal time for equal lengths, whatever is in it."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


# --------------------------------------------------------------------------- words


class Kind(StrEnum):
    """What is asked about. Source: pnc-domain reference, 2.2."""

    VEHICLE = "vehicle"
    PERSON = "person"
    DRIVER = "driver"
    PROPERTY = "property"


class Outcome(StrEnum):
    """How a check ends: exactly one of these, once (docs/interfaces.md)."""

    ANSWERED = "answered"
    REFUSED = "refused"
    EXPIRED = "expired"
    FAILED = "failed"


class ResultClass(StrEnum):
    """Result classes, most severe first, then the non-answers. Source: pnc-domain, 8."""

    HIT_WANTED = "HIT_WANTED"
    HIT_CRITICAL = "HIT_CRITICAL"
    HIT_STOLEN = "HIT_STOLEN"
    HIT_WELFARE = "HIT_WELFARE"
    HIT_CAUTION = "HIT_CAUTION"
    HIT_STATUS = "HIT_STATUS"
    TRACE_INFO = "TRACE_INFO"
    TRACE_CLEAR = "TRACE_CLEAR"
    NO_TRACE = "NO_TRACE"
    MULTIPLE = "MULTIPLE"
    TOO_MANY = "TOO_MANY"
    PARTIAL = "PARTIAL"
    RESTRICTED = "RESTRICTED"
    TIMEOUT = "TIMEOUT"
    UNAVAILABLE = "UNAVAILABLE"
    HOST_ERROR = "HOST_ERROR"
    INVALID = "INVALID"
    DENIED = "DENIED"


class Level(StrEnum):
    """Disclosure level. Source: pnc-domain, 14."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"
    L4 = "L4"


class Bearer(StrEnum):
    SERIAL = "serial"
    MQTT = "mqtt"
    TETRA = "tetra"
    GPSD = "gpsd"
    HTTP = "http"


class FixSource(StrEnum):
    GNSS = "gnss"
    PHONE = "phone"
    OTHER = "other"


class AckState(StrEnum):
    DELIVERED = "delivered"
    READ = "read"


class LinkState(StrEnum):
    UP = "up"
    SLOW = "slow"
    SILENT = "silent"
    DOWN = "down"
    DISABLED = "disabled"


class Suspicion(StrEnum):
    """What somebody may be doing to us on purpose (metric label `reason`, audit `detail`)."""

    TAKEOVER = "takeover"
    """Somebody connected with our client id."""
    IDENTITY = "identity"
    """A payload names another terminal than its topic, or a topic names none."""
    UNKNOWN_TERMINAL = "unknown_terminal"
    RETAINED = "retained"
    OVERSIZE = "oversize"
    FLOOD = "flood"
    BOOKING = "booking"
    """So many wrong factors that the officer or the radio is locked."""


# --------------------------------------------------------------------------- keys


class VehicleKey(Value, frozen=True, tag="vehicle"):
    """A vehicle by registration mark, or by chassis number (17, or the last 5 to 8).

    vrm: upper case, no blanks, 1-10 of A-Z 0-9; any format is accepted (pnc-domain, 7.2).
    """

    vrm: str = ""
    vin: str = ""


class PersonKey(Value, frozen=True, tag="person"):
    """A person: surname and at least one of forename, sex, date of birth, age.

    dob: ISO `YYYY-MM-DD` or empty. age_years: for "about 30", else None. sex: M, F, U or empty.
    """

    surname: str
    forenames: str = ""
    dob: str = ""
    age_years: int | None = None
    sex: str = ""


class DriverKey(Value, frozen=True, tag="driver"):
    """A driver by number, or by name and date of birth."""

    driver_no: str = ""
    surname: str = ""
    forenames: str = ""
    dob: str = ""


class PropertyKey(Value, frozen=True, tag="property"):
    """Property by type (BIKE, PEDAL CYCLE ...) and serial."""

    type: str
    serial: str


Key = VehicleKey | PersonKey | DriverKey | PropertyKey


def kind_of(key: Key) -> Kind:
    """The kind of check that this key asks."""
    match key:
        case VehicleKey():
            return Kind.VEHICLE
        case PersonKey():
            return Kind.PERSON
        case DriverKey():
            return Kind.DRIVER
        case PropertyKey():
            return Kind.PROPERTY


def search_key(key: Key) -> str:
    """The one canonical text of what was searched: sent to the PNC, echoed by it, compared.

    Upper case; parts joined by `/`; an age as `A35`. Personal data: never in a log or a label.
    """
    match key:
        case VehicleKey():
            return f"VRM:{key.vrm}" if key.vrm else f"VIN:{key.vin}"
        case PersonKey():
            born = key.dob or (f"A{key.age_years}" if key.age_years is not None else "")
            return f"NAME:{key.surname}/{key.forenames}/{born}/{key.sex}".upper()
        case DriverKey():
            if key.driver_no:
                return f"DRIVER:{key.driver_no}".upper()
            return f"DRIVER:{key.surname}/{key.forenames}/{key.dob}".upper()
        case PropertyKey():
            return f"PROPERTY:{key.type}/{key.serial}".upper()


# --------------------------------------------------------------------------- people


class Asker(Value, frozen=True, kw_only=True):
    """Who asks, as they stood when they asked: the officer, and the radio they asked with.

    The same member names as the fleet file's terminal once had: rows that were stored then can
    still be read. booking: the booking's id. crew: collars of the others aboard. operator: who
    keyed it for them, empty when they did. accredited_until: ISO day, empty when none is needed.
    """

    issi: Issi
    callsign: str
    officer: str
    surname: str
    rank: str = ""
    agency: str
    role: str
    area: str
    device_class: str = "handheld"
    booking: str = ""
    crew: tuple[str, ...] = ()
    operator: str = ""
    accredited_until: str = ""


class Actor(Value, frozen=True):
    """Whoever acts over the API. id: `host` for a signal, `cli:NAME` for the command line."""

    id: str
    name: str = ""
    roles: frozenset[str] = frozenset()
    agency: str = ""
    areas: frozenset[str] = frozenset()


# --------------------------------------------------------------------------- uplinks


class LocationFix(Value, frozen=True, tag="fix"):
    """A position that a receiver reported. Degrees WGS 84; None is unknown, never 0.

    fixed_at_ms: when the receiver says it was taken; None if it did not say.
    repaired: the date was repaired (GPS week roll-over). estimated: dead reckoning.
    reckoned: it said "so long ago, at most": fixed_at_ms tells nothing of the clock of its radio.
    """

    lat: float
    lon: float
    fixed_at_ms: int | None = None
    speed_mps: float | None = None
    course_deg: float | None = None
    accuracy_m: float | None = None
    source: FixSource = FixSource.GNSS
    repaired: bool = False
    estimated: bool = False
    reckoned: bool = False


class Heartbeat(Value, frozen=True, tag="heartbeat"):
    """The radio is there, and says that it has no position."""


class CheckRequest(Value, frozen=True, tag="check"):
    """An officer asks. `ref` is the terminal's own reference (1-32), empty for typed text.

    sent_at_ms: the sending time of a JSON check; None for typed text.
    typed: the normalised text of a typed enquiry (KeySDS), else empty: what repeats are known by.
    reason: a code of the active list, as text. client_ref: KeySDS `Q`, echoed. collar: KeySDS `O`.
    scope: empty for everything that the rule grants, `status` for tax, MOT and insurance only.
    """

    key: Key
    reason: str
    ref: str = ""
    sent_at_ms: int | None = None
    justification: str = ""
    location: str = ""
    fix: LocationFix | None = None
    typed: str = ""
    client_ref: str = ""
    collar: str = ""
    full: bool = False
    scope: str = ""


class MalformedCheck(Value, frozen=True, tag="malformed"):
    """Somebody asked, but not so that it can be asked on: refused, recorded, and told why.

    why: what is wrong and what to do, upper-case ASCII for a small screen ("R? GIVE REASON",
    "BAD VRM"). Never quotes what was sent. kind is None when even that cannot be told.
    """

    why: str
    ref: str = ""
    kind: Kind | None = None
    client_ref: str = ""
    typed: bool = False


class StatusReport(Value, frozen=True, tag="status"):
    """A pre-coded status; 0 is an emergency."""

    code: int


class DeliveryAck(Value, frozen=True, tag="ack"):
    """The terminal says what became of a part. check: whole id or 4-character short form."""

    check: str
    part: int
    state: AckState


class CancelRequest(Value, frozen=True, tag="cancel"):
    """The officer takes the question back (KeySDS `X`). check: whole id, short form, or what the
    terminal called it: its own reference, or the `Q12` that was typed. Empty: the newest of this
    terminal."""

    check: str = ""


class HelpRequest(Value, frozen=True, tag="help"):
    """KeySDS `?`."""


class EchoTest(Value, frozen=True, tag="echo"):
    """KeySDS `E`: prove the way there and back. text: at most 40 characters."""

    text: str = ""


class RecallRequest(Value, frozen=True, tag="recall"):
    """KeySDS `A`: show an answer again. check: as of CancelRequest; empty: the newest answer."""

    check: str = ""


class BookOn(Value, frozen=True, tag="book_on"):
    """An officer takes this radio. officer: the collar number; empty for whoever held it last, who
    has just said so by status. second: one more aboard. sent_at_ms: by the radio's own clock, which
    tells a copy from a new word; None for typed text."""

    officer: str
    factor: Secret
    callsign: str = ""
    second: bool = False
    sent_at_ms: int | None = None


class BookOff(Value, frozen=True, tag="book_off"):
    """An officer leaves it; empty: everybody aboard."""

    officer: str = ""


class Privacy(Value, frozen=True, tag="privacy"):
    """Whether the officer is free to receive. check: empty for whatever waits."""

    free: bool
    check: str = ""


class Reasoning(Value, frozen=True, tag="why"):
    """The fuller reason that a challenge asked for. check: whole id or short form."""

    check: str
    text: str


Uplink = (
    LocationFix
    | Heartbeat
    | CheckRequest
    | MalformedCheck
    | StatusReport
    | DeliveryAck
    | CancelRequest
    | HelpRequest
    | EchoTest
    | RecallRequest
    | BookOn
    | BookOff
    | Privacy
    | Reasoning
)


class BadFrame(Value, frozen=True, tag="bad"):
    """Bytes that are no message: counted by reason, never raised, never quoted.

    reason: one of FRAME_REASONS or FIX_REASONS (design ops.md, label `reason`).
    """

    reason: str


FRAME_REASONS = (
    "crc",
    "no_checksum",
    "length",
    "version",
    "duplicate",
    "auth",
    "unknown_terminal",
    "identity",
    "retained",
    "decode",
    "reserved",
    "parts",
)
FIX_REASONS = ("void", "mode", "null", "date", "range", "order", "jump", "future", "stuck")


class Ignored(Value, frozen=True, tag="ignored"):
    """A well-formed frame that is not for us (a GSV sentence): no error, counted by type."""

    type: str


# --------------------------------------------------------------------------- downlinks


class Receipt(Value, frozen=True, tag="receipt"):
    """The gateway has the check durably, or refuses it and says why."""

    ref: str
    check: str
    short: str
    accepted: bool
    why: str = ""
    client_ref: str = ""


class SourceSaid(Value, frozen=True):
    """One source of an answer. state: asked, unavailable or not_asked."""

    source: str
    state: str
    as_of_ms: int


class Result(Value, frozen=True, tag="result"):
    """The one answer to a check, as it was released to this terminal (docs/interfaces.md).

    pages: 4 x 20 screens, lines joined by newline. texts: the same as messages of the device's
    byte budget (line terminals, SDS). Below L3 `result_class` is empty. repeated: sent before.
    parent: the check whose partial answer this completes. sources: which were asked, which not.
    """

    ref: str
    check: str
    short: str
    outcome: Outcome
    result_class: str
    danger: tuple[str, ...]
    pages: tuple[str, ...]
    texts: tuple[str, ...]
    fields: dict[str, str]
    not_checked: tuple[str, ...]
    as_of_ms: int
    level: str
    receipt: str
    marking: str = "OFFICIAL-SENSITIVE"
    synthetic: bool = True
    repeated: bool = False
    client_ref: str = ""
    why: str = ""
    parent: str = ""
    sources: tuple[SourceSaid, ...] = ()


class Notice(Value, frozen=True, tag="notice"):
    """Something without subject data: late reply, result waiting, help, echo, clock.

    kind: late | waiting | unrecorded | help | echo | recall | clock | cancelled | slow | operator |
    held | challenge | booking | withheld | message. danger: danger words that are not held back
    with the rest. id: of a message that is acknowledged on its own. texts: the same as messages of
    the device's byte budget, each acknowledged; of a message only.
    """

    kind: str
    text: str
    check: str = ""
    short: str = ""
    danger: tuple[str, ...] = ()
    id: str = ""
    texts: tuple[str, ...] = ()


class Locate(Value, frozen=True, tag="locate"):
    """Say where you are, now. A radio answers it by itself, with a fix."""


class TextPart(Value, frozen=True, tag="text"):
    """One part of an answer as a line terminal or an SDS radio reads it (terminal side only)."""

    short: str
    part: int
    parts: int
    text: str
    client_ref: str = ""


Downlink = Receipt | Result | Notice | TextPart | Locate

Message = Uplink | Downlink
Decoded = Message | BadFrame | Ignored


class Frame(Value, frozen=True):
    """What a codec wants on the wire. channel: the topic below `radio/{issi}/`, empty on a line."""

    data: bytes
    channel: str = ""
    qos: int = 1


class Envelope(Value, frozen=True):
    """A message as a link hands it over.

    terminal: the authenticated identity (topic or line), never the payload's.
    received_at_ms, received_at_s: wall and monotonic time of the last byte.
    reference_ms: what fix times are judged against; received_at_ms unless the link replays a log.
    settle: called exactly once on every path when the message need not come again (commit done,
    or refused for good); for MQTT it lets the PUBACK go.
    redelivered: the bearer says that it was handed over before, perhaps to a life that it ended.
    stored: it lay somewhere until we asked: true of its own time, no sign that anybody is there.
    """

    message: Uplink
    terminal: Issi
    link: str
    bearer: Bearer
    received_at_ms: int
    received_at_s: float
    reference_ms: int
    settle: Callable[[], None]
    redelivered: bool = False
    stored: bool = False


# --------------------------------------------------------------------------- PNC


class PncQuery(Value, frozen=True):
    """One attempt at the PNC. key_text is `search_key(key)`: the reply must echo it.

    originator: at most 53 characters, exactly as sent (pnc-domain, 9.1).
    """

    check: str
    attempt: int
    key: Key
    key_text: str
    reason: str
    justification: str
    originator: str
    location: str
    on_behalf_of: str
    asked_at_ms: int
    deadline_s: float


class WarningSignal(Value, frozen=True):
    """A warning signal. set_on: ISO date or empty. code: two letters, data and not code."""

    code: str
    set_on: str = ""
    force: str = ""
    qualifier: str = ""


class Circulation(Value, frozen=True):
    """Wanted, missing, locate, order ... kind: pnc-domain section 6. covert: never on a radio."""

    kind: str
    owner: str = ""
    ref: str = ""
    power: str = ""
    offence: str = ""
    instructions: str = ""
    circulated: str = ""
    covert: bool = False


class Disqualification(Value, frozen=True):
    until: str = ""
    until_test: bool = False
    category: str = ""


class Bail(Value, frozen=True):
    status: str = ""
    conditions: tuple[str, ...] = ()
    next_date: str = ""


class VehicleReport(Value, frozen=True):
    """A police report on a vehicle. kind: pnc-domain 7.1. block: never on a radio.

    reported_at: ISO date-time or empty; age is shown, a report is not proof.
    """

    kind: str
    confirmed: bool = True
    reported_at: str = ""
    owner: str = ""
    ref: str = ""
    text: str = ""
    action: str = ""
    occupant_warnings: tuple[str, ...] = ()
    block: bool = False


class PersonRecord(Value, frozen=True, tag="person"):
    """One candidate of a person check. score: 0-100+, strong >= 85 (pnc-domain, 8)."""

    pncid: str
    surname: str
    forenames: str
    dob: str
    sex: str
    score: int = 0
    filed_name: str = ""
    aliases: tuple[str, ...] = ()
    height_cm: int | None = None
    build: str = ""
    hair: str = ""
    eyes: str = ""
    marks: tuple[str, ...] = ()
    ethnic_appearance: str = ""
    address: str = ""
    place_of_birth: str = ""
    warnings: tuple[WarningSignal, ...] = ()
    markers: tuple[str, ...] = ()
    circulations: tuple[Circulation, ...] = ()
    orders: tuple[str, ...] = ()
    bail: Bail | None = None
    disqualification: Disqualification | None = None
    offences: tuple[str, ...] = ()
    deceased: bool = False
    restricted: bool = False


class VehicleRecord(Value, frozen=True, tag="vehicle"):
    """A vehicle. tax, mot, insured: Y, N or empty for unknown (never read unknown as N or Y)."""

    vrm: str
    vin: str = ""
    make: str = ""
    model: str = ""
    colour: str = ""
    year: int | None = None
    tax: str = ""
    tax_due: str = ""
    mot: str = ""
    mot_expiry: str = ""
    insured: str = ""
    insurer: str = ""
    sorn: bool = False
    exported: bool = False
    scrapped: bool = False
    keeper: str = ""
    keeper_address: str = ""
    keeper_since: str = ""
    previous_keepers: int | None = None
    reports: tuple[VehicleReport, ...] = ()
    keeper_record: PersonRecord | None = None


class PropertyRecord(Value, frozen=True, tag="property"):
    """status: LOST, STOLEN, FOUND, SEIZED or empty (on file, no report)."""

    type: str
    serial: str
    make: str = ""
    model: str = ""
    status: str = ""
    owner: str = ""


class DriverRecord(Value, frozen=True, tag="driver"):
    driver_no: str
    surname: str
    forenames: str
    dob: str
    sex: str = ""
    licence: str = ""
    categories: str = ""
    valid_to: str = ""
    endorsements: int | None = None
    disqualification: Disqualification | None = None


PncRecord = PersonRecord | VehicleRecord | PropertyRecord | DriverRecord


class Block(Value, frozen=True):
    """A source that stands behind an answer. state: OK, UNAVAILABLE or STALE."""

    source: str
    as_of_ms: int
    state: str = "OK"


class PncAnswer(Value, frozen=True):
    """What the PNC said. check, attempt and key_text are its echo of the question.

    records: ranked candidates, best first, at most 12; () with too_many False is "no trace".
    not_checked: names of the sources that did not reply ("INSURANCE").
    """

    check: str
    attempt: int
    key_text: str
    records: tuple[PncRecord, ...]
    blocks: tuple[Block, ...]
    as_of_ms: int
    too_many: bool = False
    not_checked: tuple[str, ...] = ()


# --------------------------------------------------------------------------- vehicle register


class RegisterQuery(Value, frozen=True):
    """One attempt at the vehicle register: no consultation of the PNC. The reply must echo it."""

    check: str
    attempt: int
    vrm: str
    key_text: str
    asked_at_ms: int
    deadline_s: float


class StatusRecord(Value, frozen=True):
    """What the register says of a vehicle: no keeper, no report, ever. tax, mot, insured: Y, N or
    empty for unknown (never read unknown as N or Y)."""

    vrm: str
    tax: str = ""
    tax_due: str = ""
    mot: str = ""
    mot_expiry: str = ""
    insured: str = ""
    insurer: str = ""
    sorn: bool = False
    make: str = ""
    colour: str = ""
    exported: bool = False


class RegisterAnswer(Value, frozen=True):
    """check, attempt and key_text are its echo of the question. record: None when unknown to it."""

    check: str
    attempt: int
    key_text: str
    record: StatusRecord | None
    blocks: tuple[Block, ...]
    as_of_ms: int


# --------------------------------------------------------------------------- events (the bus)


class UnitFix(Value, frozen=True, tag="unit.fix"):
    """An accepted fix (fix lane: conflated, newest per terminal)."""

    terminal: Issi
    lat: float
    lon: float
    fixed_at_ms: int
    received_at_ms: int
    accuracy_m: float | None
    course_deg: float | None
    speed_mps: float | None
    source: FixSource
    flags: int = 0


class UnitMeta(Value, frozen=True, tag="unit.meta"):
    terminal: Issi
    callsign: str
    agency: str
    area: str
    device_class: str
    status: str
    t_ms: int
    gone: bool = False
    booked: bool = False
    lone: bool = False


class UnitEmergency(Value, frozen=True, tag="unit.emergency"):
    """on: raised or ended. occurrence: the alarm's id."""

    terminal: Issi
    occurrence: str
    on: bool
    t_ms: int
    lat: float | None = None
    lon: float | None = None
    fix_age_s: float | None = None


class CheckOpened(Value, frozen=True, tag="check.open"):
    short: str
    check: str
    terminal: Issi
    kind: Kind
    opened_ms: int
    deadline_ms: int
    parent: str = ""
    operator: str = ""


class CheckStaged(Value, frozen=True, tag="check.stage"):
    """stage: queued, pnc, retry, held, prompted, disclosing, delivering.

    told: `early` when it would show, before its terminal hears of it, how long the PNC took over an
    answer below L3: for viewers with the right `class` alone. Else empty: for everybody.
    """

    short: str
    check: str
    terminal: Issi
    stage: str
    t_ms: int
    parent: str = ""
    operator: str = ""
    told: str = ""


class CheckDone(Value, frozen=True, tag="check.done"):
    """The outcome. result_class and danger go only to viewers who may know.

    told: as of CheckStaged; `slot` is the same outcome at the moment at which its terminal may hear
    of it, and as of then: for those who were not told early.
    """

    short: str
    check: str
    terminal: Issi
    kind: Kind
    outcome: Outcome
    result_class: str
    danger: tuple[str, ...]
    parts: int
    not_checked: tuple[str, ...]
    level: str
    t_ms: int
    elapsed_s: float
    overhead_s: float | None
    cause: str = ""
    parent: str = ""
    operator: str = ""
    told: str = ""


class CheckDelivery(Value, frozen=True, tag="check.delivery"):
    """state: sent, delivered, read, failed, stale."""

    short: str
    check: str
    terminal: Issi
    part: int
    state: str
    t_ms: int


class AlarmChanged(Value, frozen=True, tag="alarm"):
    """The full record; replace by id. state: unack-active, ack-active, unack-cleared, cleared.

    response: the written response of its rule. audience: operator, supervisor or ops. group: of
    alarms with one cause. why: of a shelving or a close.
    """

    id: str
    rule: str
    priority: int
    state: str
    raised_ms: int
    t_ms: int
    terminal: Issi = ""
    check: str = ""
    short: str = ""
    link: str = ""
    ack_by: str = ""
    closed_by: str = ""
    count: int = 1
    response: str = ""
    audience: str = "operator"
    shelved_until_ms: int | None = None
    chatter: int = 0
    group: str = ""
    why: str = ""


class LinkChanged(Value, frozen=True, tag="link"):
    """kind: serial, mqtt, tetra, pnc, audit ... detail never holds an address or identity."""

    id: str
    kind: str
    state: LinkState
    since_ms: int
    detail: str = ""


class Noticed(Value, frozen=True, tag="notice.event"):
    """A word to the control room without subject data (late reply, supervisor notice id)."""

    kind: str
    t_ms: int
    short: str = ""
    check: str = ""
    terminal: Issi = ""


class ReleaseChanged(Value, frozen=True, tag="release"):
    """An answer that an operator must let go. state: held, released, amended, refused, stale.

    proposed: the small-screen text at that level: no more than the officer would read.
    """

    short: str
    check: str
    terminal: Issi
    level: str
    proposed: str
    state: str
    since_ms: int
    t_ms: int
    by: str = ""


class MessageChanged(Value, frozen=True, tag="message"):
    """A message of the control room to one unit. state: queued, sent, delivered, read, stale."""

    id: str
    short: str
    terminal: Issi
    state: str
    t_ms: int
    by: str = ""


class ChallengeChanged(Value, frozen=True, tag="challenge"):
    """A check that must be explained. state: open, answered, reviewed, overdue."""

    short: str
    check: str
    terminal: Issi
    state: str
    due_ms: int
    t_ms: int


class PolicyChanged(Value, frozen=True, tag="policy.change"):
    version: str
    t_ms: int


Event = (
    UnitFix
    | UnitMeta
    | UnitEmergency
    | CheckOpened
    | CheckStaged
    | CheckDone
    | CheckDelivery
    | AlarmChanged
    | LinkChanged
    | Noticed
    | ReleaseChanged
    | MessageChanged
    | ChallengeChanged
    | PolicyChanged
)


RIGHTS = (
    "class",
    "callsign",
    "position",
    "identity",
    "emergency",
    "release",
    "supervise",
    "covert",
    "audit",
    "ops",
    "message",
    "ask",
)
"""What a viewer may be allowed: a closed set. `class`: result class and danger words. `identity`:
the ISSI. `covert`: that something was withheld from a radio, never what."""


class Viewer(Value, frozen=True):
    """Whoever a subscription is for. Those equal in all but `id` share projection and encoding.

    rights: words of RIGHTS that they have whatever the policy says. roles: whose rights are those
    of the policy at the moment at which they are shown something. agency, areas: whose events,
    where; empty is no narrowing. bound: nothing of others, whatever the policy says of other areas
    (a call for help has an agency, and no area).
    """

    id: str
    kind: str
    rights: frozenset[str] = frozenset()
    agency: str = ""
    areas: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    bound: bool = False


# --------------------------------------------------------------------------- the picture now


class UnitNow(Value, frozen=True):
    """A unit as the control room sees it now.

    band: live, aging, stale, lost, or none when there is no position. contact_ms: when the
    terminal was last heard with anything at all; None before the first time.
    """

    meta: UnitMeta
    fix: UnitFix | None = None
    band: str = "none"
    contact_ms: int | None = None
    emergency: bool = False


class CheckNow(Value, frozen=True):
    """A check as the control room sees it now; done and delivery when there is one."""

    opened: CheckOpened
    stage: str
    done: CheckDone | None = None
    delivery: str = ""


class HeldAnswer(Value, frozen=True):
    """A held answer, as an operator reads it before they decide. levels: the screens that its
    officer would read, at the proposed level and at each below it. whole: the screens at the
    operator's own level, without what is covert; empty where the policy lets them see none."""

    release: ReleaseChanged
    levels: dict[str, tuple[str, ...]]
    whole: tuple[str, ...] = ()
    whole_level: str = ""


class AssistedCheck(Value, frozen=True):
    """A question that an operator keyed for an officer, on record. to_radio: whether the officer's
    radio is answered, too. refused: why it was not asked; empty when it was."""

    check: str
    short: str
    terminal: Issi
    to_radio: bool
    refused: str = ""


class ControlAnswer(Value, frozen=True):
    """What came of it, as the operator who asked may see it. fields: the field groups in it."""

    check: str
    short: str
    outcome: Outcome
    result_class: str
    danger: tuple[str, ...]
    pages: tuple[str, ...]
    level: str
    fields: tuple[str, ...]
    why: str = ""


class ToReview(Value, frozen=True):
    """A challenged check as a supervisor looks at it. cause: why it was challenged. text: what its
    officer wrote; empty until then."""

    challenge: ChallengeChanged
    officer: str
    kind: str
    reason: str
    cause: str
    text: str


class Snapshot(Value, frozen=True):
    """The whole picture for one viewer, already projected to what that viewer may see.

    seq: number of the last event this viewer was due (`EventBus.position`): the stream goes on
    after it. counts: figures by name (`on_duty`, `stale`) and area; what could not be counted is
    absent there and named in errors.
    """

    seq: int
    t_ms: int
    units: tuple[UnitNow, ...]
    checks: tuple[CheckNow, ...]
    alarms: tuple[AlarmChanged, ...]
    links: tuple[LinkChanged, ...]
    releases: tuple[ReleaseChanged, ...] = ()
    counts: dict[str, dict[str, int]] = {}
    errors: tuple[str, ...] = ()
    messages: tuple[MessageChanged, ...] = ()
