"""The sockets in the wall: what the core needs of the world (typing.Protocol).

Each port has one contract suite under tests/contracts, run on every implementation and fake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Unpack, runtime_checkable

import msgspec

from gateway.log_words import LogEvent, LogFields
from gateway.messages import (
    AlarmChanged,
    Bearer,
    Decoded,
    Downlink,
    Envelope,
    Event,
    Frame,
    Issi,
    Message,
    PncAnswer,
    PncQuery,
    RegisterAnswer,
    RegisterQuery,
    Secret,
    Suspicion,
    UnitFix,
    UnitMeta,
)


class Clock(Protocol):
    """Time, injected: tests and the simulation move it by hand.

    counter: names the machine on which `monotonic_s` counts, over all its restarts; empty when that
    cannot be known. Only figures of one counter may be compared.
    """

    @property
    def counter(self) -> str: ...

    def wall_ms(self) -> int:
        """Wall clock, ms since the epoch. For records and screens; never for latency."""

    def monotonic_s(self) -> float:
        """For deadlines and latency."""

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    """Identities and chance, injected."""

    def check(self) -> str:
        """A check's id: unique for ever, sortable by time; the last 4 characters are no secret."""

    def receipt(self) -> str:
        """At least 40 bits, shown as `4F2A-91KQ`."""

    def occurrence(self) -> str:
        """An alarm occurrence's id."""

    def uniform(self, low: float, high: float) -> float:
        """For jitter only."""


class Meter(Protocol):
    """Metrics. `name` is without the `gateway_` prefix; an unknown name or label is a defect."""

    def count(self, name: str, n: float = 1, **labels: str) -> None: ...

    def observe(self, name: str, seconds: float, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...


class Journal(Protocol):
    """The log. Takes declared events and fields only: mypy refuses others, and what mypy was not
    asked about is dropped and counted."""

    def note(self, event: LogEvent, **fields: Unpack[LogFields]) -> None: ...

    def warn(self, event: LogEvent, **fields: Unpack[LogFields]) -> None: ...


class Codec(Protocol):
    """Bytes <-> messages, sans-IO, one object per line or per datagram.

    Symmetrical: built with side="terminal" it reads downlinks and writes uplinks.
    No clock: the caller passes the time. Never raises on content.
    """

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]:
        """Take any slice of the stream (or one datagram); return what is now complete."""

    def encode(self, message: Message) -> Sequence[Frame]:
        """The frames that say this message; () when this protocol has no word for it."""


Handle = Callable[[Envelope], None]
Named = Callable[[str, str], Issi]
"""Protocol and the name that a terminal has there -> its ISSI; empty for a stranger."""
Suspect = Callable[[Suspicion, str, Issi], None]
"""Told what a link noticed: the cause, the link, and the terminal (empty when it is no ISSI)."""


Tap = Callable[[str, bytes], None]
"""Told what a link heard, before it is judged: on which channel (a topic, a peer; empty where there
is one only), and the bytes. O(1), never waits, never raises; who records decides what is kept."""

OPENED = "opened"
"""The channel on which a tap is told, with no bytes, that a line begins anew: what was half said
before is nobody's."""


class Hush(Protocol):
    """Takes second factors out of what one link heard, before any of it is kept. One object a link;
    pure. What it cannot judge it does not let through as it is."""

    def take(self, channel: str, data: bytes, at_ms: int) -> Sequence[tuple[str, bytes]]:
        """As a tap was told; returns what is whole now, with its channel. Half a line is held, for
        a factor may stand across two slices."""

    def rest(self) -> Sequence[tuple[str, bytes]]:
        """What is held, at the end."""


def untapped(channel: str, data: bytes) -> None:
    """For a link that nobody records."""
    del channel, data


SEND_S = 5.0
"""Of a bearer that takes a message at once or not at all."""


class Link(Protocol):
    """Owns one serial port or one broker. Decides nothing."""

    name: str
    kind: str
    bearer: Bearer
    send_s: float
    """How long a message may take to be handed over, in all its parts."""
    heard_at_s: float | None
    """Monotonic time of the last thing said over it that can be read, be it only that a receiver
    has no fix; None before the first since it came up. Noise is not heard."""

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Open, call `up`, serve until it breaks. Raises LinkDown; never returns otherwise."""

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        """Hand one message to the bearer within deadline_s, or raise SendFailed. Cancelled, nothing
        more of it goes out."""

    def reaches(self, terminal: Issi) -> bool:
        """Whether this link is up and this terminal may be behind it."""


@runtime_checkable
class Returns(Protocol):
    """A link that can see, without opening anything, that what it lacked is there again."""

    def returned(self) -> bool:
        """Whether it has come back since this was last asked."""


@runtime_checkable
class Locates(Protocol):
    """A link over which a radio can be asked where it is (messages.Locate)."""

    def locates(self, terminal: Issi) -> bool:
        """Whether what this one speaks has a word for it."""


@runtime_checkable
class Plays(Protocol):
    """A link that can be told what it once heard (gateway.replay)."""

    def played(self, handle: Handle) -> Tap:
        """Opens nothing: what its tap was told then is judged now, as by `run`, with nobody to
        acknowledge it to."""


Also = Callable[[str, bytes], None]
"""Told, once at most, that something came after the reply to a question, which nobody is shown: why
it is none (`second`, `stray`), and its fingerprint as in PncGarbled."""


def nothing_more(reason: str, fingerprint: bytes) -> None:
    """For who does not care."""
    del reason, fingerprint


class Pnc(Protocol):
    """Whatever answers checks."""

    async def query(self, query: PncQuery, also: Also = nothing_more) -> PncAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline and the retries.
        `also` may be called until a moment after it returned.

        Implementations verify the echo (check, attempt, key_text) and raise PncGarbled("echo").
        """

    async def sources(self) -> frozenset[str]:
        """Which sources (PNC, INSURANCE ...) reply now; at most 3 s. Raises PncError. Names no
        subject, so it is no consultation."""

    async def close(self) -> None: ...


class VehicleRegister(Protocol):
    """Whatever answers for tax, MOT and insurance. Asking it consults no PNC."""

    async def look_up(self, query: RegisterQuery) -> RegisterAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline and the retries.

        Implementations verify the echo (check, attempt, key_text) and raise PncGarbled("echo").
        """

    async def sources(self) -> frozenset[str]:
        """Which of DVLA and MID reply now; as Pnc.sources."""

    async def close(self) -> None: ...


# --------------------------------------------------------------------------- people


class Factors(Protocol):
    """Second factors, stored so that whoever reads the store has none."""

    async def matches(self, stored: str, given: Secret) -> bool:
        """Whether this is it; the same work for stored == "" (no such person). Off the loop.

        Raises FactorsBusy when too many are being checked.
        """

    def made(self, given: Secret) -> str:
        """What to store: a PHC string. Slow on purpose; for the command line, not for the loop."""


class Identity(msgspec.Struct, frozen=True):
    """Who a provider says it is. values: what the claim for roles holds."""

    subject: str
    values: frozenset[str]


class IdentityProvider(Protocol):
    """Whoever knows operators elsewhere (OpenID Connect). Both raise LogInRefused."""

    async def begin(self) -> tuple[str, str]:
        """Where to send the browser, and the ticket that it must bring back."""

    async def finish(self, ticket: str, query: Mapping[str, str]) -> Identity:
        """Who came back with this query."""


class Seals(Protocol):
    """Signatures under a policy."""

    def valid(self, key: str, signature: str, message: bytes) -> bool:
        """Whether whoever has this key signed this; False for whatever is no key or signature."""


class Keyed(Protocol):
    """HMAC-SHA256 under a key of this instance: tells equal from other, and nothing else."""

    def __call__(self, purpose: str, text: str) -> bytes:
        """purpose: a fixed word, so that digests of two purposes cannot be compared."""


# --------------------------------------------------------------------------- the ledger


class Minded(Protocol):
    """A desk with duties by time alone, and with records that may have to wait for the ledger."""

    def tick(self, now_s: float, now_ms: int, /) -> None:
        """Once a second. Never waits."""

    @property
    def unrecorded(self) -> int:
        """What waits for the ledger."""

    async def record(self) -> object:
        """Write what waits; what cannot be written now waits on. Raises LedgerFatal."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One audit record. The ledger adds log, sequence, verb, previous hash and hash.

    content: personal data (search key, disclosed text), stored apart and purgeable; only
    H(salt || content) enters the chain. Everything else must be free of subject data.
    """

    event: str
    """One of AUDIT_EVENTS."""
    at_ms: int
    check: str = ""
    terminal: str = ""
    officer: str = ""
    agency: str = ""
    role: str = ""
    operator: str = ""
    reason: str = ""
    operation: str = ""
    outcome: str = ""
    recipient: str = ""
    fields: tuple[str, ...] = ()
    level: str = ""
    policy: str = ""
    attempt: int = 0
    receipt: str = ""
    detail: str = ""
    content: bytes | None = None
    booking: str = ""
    """Whose radio it was at the time: the booking's id."""
    on_behalf: str = ""
    """The agency for which the police asked."""
    parent: str = ""
    """The check that this one supplements."""
    source: str = ""
    """What was asked or read: PNC, DVLA, MID. No `asked` of the PNC, no PNC consultation."""
    operator_role: str = ""
    mono_ms: int = 0
    """When it was handed to the ledger, by the machine's monotonic clock: tells how long was
    between two records of one start of the machine, however the wall clock was set."""
    latency_ms: int = 0
    """Of a check: since its question came; on the monotonic clock."""
    build: str = ""
    config: str = ""
    """Which version of the program, and the digest of which configuration (settings.Config)."""

    @property
    def verb(self) -> str:
        """What of the statute's list this is; empty for what the service does for itself."""
        return VERBS.get(self.event, "")


COLLECTION = "collection"
CONSULTATION = "consultation"
COMBINATION = "combination"
DISCLOSURE = "disclosure"
ALTERATION = "alteration"
ERASURE = "erasure"

VERBS = {
    "opened": COLLECTION,
    "booked": COLLECTION,
    "locate": COLLECTION,
    "asked": CONSULTATION,
    "combined": COMBINATION,
    "disclosed": DISCLOSURE,
    "duplicate": DISCLOSURE,
    "shown": DISCLOSURE,
    "export": DISCLOSURE,
    "message": DISCLOSURE,
    "alteration": ALTERATION,
    "booked_off": ALTERATION,
    "released": ALTERATION,
    "amended": ALTERATION,
    "withheld": ALTERATION,
    "reviewed": ALTERATION,
    "session": ALTERATION,
    "purged": ERASURE,
}
"""Event -> verb of s.62 DPA 2018. What is not here is no processing of personal data."""

AUDIT_EVENTS = (
    "started",
    "stopped",
    "opened",
    "asked",
    "answered",
    "disclosed",
    "refused",
    "delivered",
    "read",
    "stale",
    "late_answer",
    "duplicate",
    "cancelled",
    "emergency",
    "alarm",
    "alteration",
    "security",
    "export",
    "purged",
    "booked",
    "booked_off",
    "released",
    "amended",
    "withheld",
    "shown",
    "message",
    "combined",
    "challenged",
    "reviewed",
    "session",
    "denied",
    "anchor",
    "locate",
)


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """What of a check must survive a restart.

    dedupe: unique while younger than 24 h. state: the encoded machine and question (personal,
    purgeable). result: the encoded Result as released, None until then (personal, purgeable).
    """

    id: str
    short: str
    receipt: str
    terminal: str
    dedupe: str
    opened_at_ms: int
    state: bytes
    open: bool
    outcome: str = ""
    result: bytes | None = None


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits for its officer. holder: whose it is; fence: the writer's epoch.

    priority: 0 hit, 1 answer, 2 notice. stale_at_ms: after this it is never sent. kind: `answer`
    to a check, or a `message` of the control room.
    """

    id: str
    check: str
    terminal: str
    holder: str
    payload: bytes
    queued_at_ms: int
    stale_at_ms: int
    priority: int = 1
    fence: int = 0
    kind: str = "answer"


KEPT = (
    "booking",
    "challenge",
    "message",
    "supplement",
    "timer",
    "session",
    "policy",
    "alarm",
    "hit",
    "assisted",
)
"""What desks keep over a restart besides checks and the outbox."""


class KeptRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a desk must find again after a restart. kind: one of KEPT. body: its own JSON.

    personal: purged with the content of its time, that is when until_ms (without one: at_ms) is
    older than what is kept. Until then only its desk drops it.
    """

    kind: str
    id: str
    at_ms: int
    body: bytes
    until_ms: int | None = None
    personal: bool = False


class PutCheck(msgspec.Struct, frozen=True, tag=True):
    """Insert or replace by id. A new id whose dedupe stands already: DuplicateCheck; whose receipt
    another check has, or had: DuplicateReceipt."""

    row: CheckRow


class PutOutbox(msgspec.Struct, frozen=True, tag=True):
    row: OutboxRow


class DropOutbox(msgspec.Struct, frozen=True, tag=True):
    id: str


class PutAlarm(msgspec.Struct, frozen=True, tag=True):
    """open: whether it must be raised again after a restart."""

    alarm: AlarmChanged
    open: bool


class PutKept(msgspec.Struct, frozen=True, tag=True):
    """Insert or replace by kind and id."""

    row: KeptRow


class DropKept(msgspec.Struct, frozen=True, tag=True):
    kind: str
    id: str


Change = PutCheck | PutOutbox | DropOutbox | PutAlarm | PutKept | DropKept


class Ledger(Protocol):
    """The durable record. One writer; what `commit` returned from has been synced to disk."""

    async def commit(self, records: Sequence[Record], changes: Sequence[Change] = ()) -> None:
        """Append all records and make all changes, or none. Durable on return.

        In the order of the calls: a later commit never takes effect before an earlier one that
        still waits, so that what was written last is what stands.
        Raises DuplicateCheck, DuplicateReceipt (nothing written), LedgerUnavailable (nothing
        written; try later), LedgerFatal (the process must stop).
        """

    async def open_checks(self) -> list[CheckRow]: ...

    async def outbox(self) -> list[OutboxRow]: ...

    async def open_alarms(self) -> list[AlarmChanged]: ...

    async def kept(self, kind: str) -> list[KeptRow]:
        """Those of one kind, the oldest first."""

    async def check(self, id_: str) -> CheckRow | None:
        """By whole id."""

    async def last_check(self, terminal: Issi, short: str = "") -> CheckRow | None:
        """The newest of this terminal (with this short form, when given)."""

    async def recent_checks(self, terminal: Issi, since_ms: int) -> list[CheckRow]:
        """Those of this terminal that were opened since then, newest first; at most 64."""

    async def close(self) -> None:
        """Write what was accepted, then let go."""


class OwnLedger(Ledger, Protocol):
    """What its own daemon may do besides. gap: it went on behind records that are missing."""

    gap: bool

    async def head(self) -> tuple[int, str]:
        """Sequence and hash of the newest durable record."""

    async def hide_questions(self, keyed: Callable[[str], str]) -> None:
        """Make digests that were written plainly into what `keyed` gives."""

    async def purge(self, before_ms: int) -> int:
        """Destroy personal content older than this, on record; how many contents."""


class History(Protocol):
    """Fixes and feed events for replay and reports. Never blocks; sheds and counts when full."""

    def keep(self, event: Event) -> None: ...

    async def close(self) -> None: ...


class Present(Protocol):
    """What there is now, of everybody: for relays, which show none of it but by the policy."""

    def terminals(self) -> Iterable[Issi]:
        """Every one of the fleet."""

    def meta(self, terminal: Issi) -> UnitMeta | None:
        """None: not in the fleet."""

    def fix(self, terminal: Issi) -> UnitFix | None:
        """Its newest position; None: it has none."""

    def stale_s(self, terminal: Issi) -> float:
        """So old its position is stale."""

    def alarms(self) -> Sequence[AlarmChanged]:
        """Those that are open, the gravest first."""


class Anchor(Protocol):
    """A place off this host that keeps heads of the audit."""

    name: str

    async def put(self, head: bytes) -> None:
        """Hand over one signed head, a line of JSON. Raises AnchorFailed; the caller owns the
        deadline. The same one twice does no harm."""

    async def newest(self) -> bytes | None:
        """The newest one that it has; None when it has none or cannot be read back (syslog).
        Raises AnchorFailed."""
