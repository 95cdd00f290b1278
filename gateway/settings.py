"""The configuration, typed and frozen: the only place that reads `config/`.

Unknown keys are refused. Every finding names file, key, reason and, where it can be known, line;
all files are checked before anything is said, so that one run shows every fault. Paths are relative
to the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gateway import alarm_rules
from gateway.alarm_rules import AlarmRules
from gateway.errors import ConfigError
from gateway.findings import Lines, Place, faults, spelt
from gateway.messages import Kind
from gateway.rulebook import (
    ROLES,
    Areas,
    Fleet,
    People,
    Policy,
    Section,
    Warnings,
    check_areas,
    check_fleet,
    check_operators,
    check_people,
    check_policy,
    check_warnings,
    is_day,
)

T = TypeVar("T", bound=msgspec.Struct)


class GatewaySection(Section, frozen=True, kw_only=True):
    instance: str = "gw1"
    """Names the audit log and the retained state topic; letters, digits, `-`."""
    timezone: str = "Europe/London"
    """For the times that officers read on their screens."""
    state_dir: str = "var"
    """Where the ledger and the history live, relative to this file unless absolute."""
    profile: str = "training"
    """training or production: production refuses what is only safe where nothing is real."""
    fleet: str = "fleet.toml"
    people: str = "people.toml"
    areas: str = "areas.toml"
    policy: str = "policy.toml"
    warnings: str = "warnings.toml"


class ChecksSection(Section, frozen=True, kw_only=True):
    deadline_s: float = 15.0
    deadlines_s: dict[str, float] = msgspec.field(default_factory=dict)
    """Per kind: vehicle, person, driver, property."""
    concurrency: int = 16
    """Questions at the PNC at once."""
    queue: int = 256
    """Questions that wait for a place; one more is refused: BUSY RETRY."""
    retries: int = 2
    retry_base_s: float = 0.2
    stale_s: float = 600.0
    """An answer that its officer did not get by then is never delivered."""
    late_grace_s: float = 30.0
    """How long after the deadline a reply is still listened for (only to say that it came)."""
    breaker_failures: int = 5
    breaker_open_s: float = 5.0
    resend_s: float = 10.0
    """An unacknowledged answer is sent again after this, doubling, until seen or stale."""
    hit_again_s: float = 30.0
    """A hit that is unread for so long is sent to its officer once more, delivered or not."""
    not_free_remind_s: float = 60.0
    """Between two reminders to an officer who is not free to receive."""
    typed_repeat_s: float = 60.0
    clock_skew_s: float = 30.0
    per_terminal_open: int = 8
    """Checks that one terminal may have open; one more is refused: BUSY RETRY."""
    settled_memory: int = 2000
    """Recent outcomes kept in memory so that a repeat costs no read."""


class BookSection(Section, frozen=True, kw_only=True):
    """Booking radios on (gateway/bookings.py)."""

    hours: float = 12.0
    """A booking ends by itself after this."""
    attempts: int = 5
    """Wrong factors of one officer, or at one radio, within lock_s; then both wait."""
    lock_s: float = 900.0
    """So long the first time, then twice as long each time."""
    memory_kib: int = 19456
    """What one check of a factor costs, when it is made (Argon2id)."""
    at_once: int = 2
    window_s: float = 60.0
    """How long after the status that books on the factor may come."""
    broker_holds_s: float = 5.0
    """Message Expiry of whatever says something of somebody: longer no broker may keep it."""


class LimitsSection(Section, frozen=True, kw_only=True):
    """Token buckets (gateway/limits.py): messages a second in the long run, and at once."""

    per_s: float = 5.0
    """One terminal's questions; again as many reports (statuses, acknowledgements)."""
    burst: int = 20
    officer_per_hour: float = 120.0
    """One officer's questions, over all radios."""
    officer_burst: int = 20
    fixes_per_s: float = 5.0
    """One terminal's positions."""
    fixes_burst: int = 20
    all_per_s: float = 2000.0
    """As `per_s`, of all terminals together."""
    all_burst: int = 4000
    all_fixes_per_s: float = 5000.0
    all_fixes_burst: int = 10000


class SlotsSection(Section, frozen=True, kw_only=True):
    """When terminals below L3 hear of their questions (slots.py). below_l3_s empty: at once."""

    below_l3_s: tuple[float, ...] = ()
    release_s: float = 10.0


class TrackingSection(Section, frozen=True, kw_only=True):
    future_s: float = 30.0
    oldest_s: float = 86400.0
    max_speed_mps: float = 90.0
    stuck_fixes: int = 20
    """So many fixes to the last digit alike while the receiver claims to move: stuck."""
    staleness_s: dict[str, float] = msgspec.field(
        default_factory=lambda: {"handheld": 30.0, "vehicle": 15.0, "phone": 60.0}
    )
    """Per device class: the interval T of the age bands (live <= 2T, aging <= 4T, stale <= 20T)."""


class SerialSection(Section, frozen=True, kw_only=True):
    name: str
    port: str
    """Stable path (/dev/serial/by-id/...) or socket://host:port."""
    terminal: str = ""
    """The ISSI behind this line."""
    codec: str = "line_terminal"
    baud: int = 9600
    bits: int = 8
    parity: str = "N"
    stop: float = 1
    rtscts: bool = False
    xonxoff: bool = False
    write_buffer: int = 8192
    """Bytes that may wait for the port; more is refused to the sender."""
    write_deadline_s: float = 2.0
    silent_s: float = 120.0
    reference_date: str = ""
    """For replayed logs only: ISO date that stands for today when this line's fixes are judged:
    against its end, and without a date of their own they are of that day."""
    accept_estimated: bool = False


class MqttSection(Section, frozen=True, kw_only=True):
    """Where a broker is, and who we are to it."""

    name: str
    host: str = "127.0.0.1"
    port: int = 1883
    version: str = "5"
    """5 or 3.1.1."""
    client_id: str = "radio-gateway"
    username: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    keepalive_s: int = 5
    max_payload: int = 16384
    silent_s: float = 120.0


class BrokerSection(MqttSection, frozen=True, kw_only=True):
    prefix: str = "radio"
    client_id: str = "radio-gateway"
    """Checks, text, fixes. The status and ack session is `<client_id>-status`."""
    status_username: str = ""
    """User of the second session where the broker makes the user name the client id."""
    status_password_file: str = ""
    status_cert_file: str = ""
    status_key_file: str = ""
    feed_username: str = ""
    """User of the feed's connection, likewise; all of these default to those of the first."""
    feed_password_file: str = ""
    feed_cert_file: str = ""
    feed_key_file: str = ""
    session_expiry_s: int = 3600
    queued_marked_retained: bool = False
    """Only for the demo's broker (amqtt), which marks queued messages retained."""
    feed: bool = True
    """Publish feed/fix, feed/check, feed/alarm on this broker."""


class OwnTracksSection(MqttSection, frozen=True, kw_only=True):
    """Phones that tell their position by OwnTracks (adapters/links/owntracks.py). A phone's name
    there, `user/device`, is `names.owntracks` of its terminal in the fleet file."""

    prefix: str = "owntracks"
    client_id: str = "radio-gateway-owntracks"
    keys_file: str = ""
    """A line `user-device passphrase`, in lower case, for each phone that encrypts."""
    silent_s: float = 1800.0


TEAMS = (
    *("White", "Yellow", "Orange", "Magenta", "Red", "Maroon", "Purple", "Dark Blue"),
    *("Blue", "Cyan", "Teal", "Green", "Dark Green", "Brown"),
)
"""The colours of teams that TAK knows."""
TEAM_ROLES = (
    *("Team Member", "Team Lead", "HQ", "Sniper", "Medic", "Forward Observer", "RTO", "K9"),
)


class CotSection(Section, frozen=True, kw_only=True):
    """Cursor on Target to one TAK server, or to a multicast group."""

    name: str
    transport: str = "tcp"
    """tcp, tls or multicast."""
    host: str = "127.0.0.1"
    port: int = 8087
    allow_plain: bool = False
    """Positions leave this host unencrypted only by name."""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    """In the server's certificate, where that is not `host`."""
    interface: str = ""
    """multicast: our address on the network that it goes to."""
    ttl: int = 1
    agency: str = ""
    areas: tuple[str, ...] = ()
    """Units of no other agency and areas, whatever the policy shows relays; empty: all."""
    uid_prefix: str = "RADIO-"
    type: str = "a-f-G-U-C"
    team: str = "Cyan"
    """Of areas that `teams` does not name."""
    teams: dict[str, str] = msgspec.field(default_factory=dict)
    role: str = "Team Member"
    stale_s: float = 0.0
    """0: when the position is stale by its device class (4 T)."""
    min_interval_s: float = 5.0
    emergency_repeat_s: float = 5.0
    write_deadline_s: float = 5.0


class TetraSection(Section, frozen=True, kw_only=True):
    """A TETRA radio at the gateway, on its PEI: many terminals behind one port."""

    name: str
    port: str
    """Stable path (/dev/serial/by-id/...) or socket://host:port."""
    baud: int = 38400
    rtscts: bool = True
    dialect: str = "plain"
    """How this make wants to be spoken to (adapters.links.pei_dialects)."""
    services: tuple[str, ...] = ()
    """What is registered (AT+CTSP=...), where the dialect's does not do."""
    mcc: str = ""
    mnc: str = ""
    """Our network: who calls from another one is a stranger. Empty: not judged."""
    max_pdu_bits: int = 668
    reports: bool = True
    """Handsets are asked to say that they have a message; of danger words they always are."""
    concatenation: str = "udh"
    """How a text that is too long for one message is cut: udh or sds."""
    undecorate: bool = True
    """Some networks put identities around a text; they are taken off."""
    accept_estimated: bool = False
    keep_alive_s: float = 20.0
    renew_s: float = 300.0
    """The services are registered anew after this, whatever was noticed."""
    air_s: float = 15.0
    """So long the radio may take to say what became of a message."""
    send_s: float = 60.0
    """So long a message may take, in all its parts, behind all others."""
    queue: int = 200
    """Parts that may wait for the radio; the least urgent goes."""
    write_buffer: int = 8192
    write_deadline_s: float = 5.0
    silent_s: float = 120.0


class GpsdSection(Section, frozen=True, kw_only=True):
    """A gpsd that tells where one terminal is: a vehicle's receiver."""

    name: str
    host: str = "127.0.0.1"
    port: int = 2947
    allow_remote: bool = False
    """gpsd speaks in clear and to anybody: one that is not on loopback must be meant."""
    terminal: str = ""
    """The ISSI that is where this receiver is."""
    device: str = ""
    """Only this receiver of that gpsd (`/dev/ttyACM0`); empty: whatever it has."""
    accept_estimated: bool = False
    ask_after_s: float = 4.0
    """Quiet for so long, it is asked for a word; as long again without one, it is down."""
    silent_s: float = 120.0


class OsmandSection(Section, frozen=True, kw_only=True):
    """A listener for trackers that send their positions over HTTP (OsmAnd, Traccar's clients)."""

    name: str
    host: str = "127.0.0.1"
    """Off loopback only with a token file, and with TLS or allow_plain."""
    port: int = 5055
    token_file: str = ""
    allow_plain: bool = False
    """Tokens and positions go over the network in clear only by name."""
    cert_file: str = ""
    key_file: str = ""
    min_tls: str = "1.3"
    """1.3, or 1.2 for clients that know no better."""
    speed_unit: str = "kn"
    """Of a query's `speed`: kn, kmh or mps."""
    max_connections: int = 500
    max_per_address: int = 20
    per_address_per_s: float = 10.0
    """Requests of one address; what comes faster waits."""
    header_deadline_s: float = 5.0
    body_deadline_s: float = 10.0
    silent_s: float = 600.0


class PncSection(Section, frozen=True, kw_only=True):
    adapter: str = "mock"
    """mock (in process) or http."""
    url: str = ""
    records: str = "pnc"
    """Folder of the mock's records."""
    token_file: str = ""
    max_reply: int = 262144
    connect_timeout_s: float = 3.0
    allow_remote: bool = False
    """A PNC that is not on loopback must be allowed by name (pnc-domain, 18.18)."""


class RegisterSection(Section, frozen=True, kw_only=True):
    """The vehicle register: tax, MOT and insurance without a consultation of the PNC."""

    adapter: str = "none"
    """mock (in process), http, or none: then the PNC's own copy is all that there is."""
    url: str = ""
    records: str = "pnc"
    """Folder of the mock's records: the PNC's, of which it reads the status of vehicles alone."""
    token_file: str = ""
    max_reply: int = 65536
    connect_timeout_s: float = 3.0
    allow_remote: bool = False
    supplement_s: float = 600.0
    """So long after a partial answer what it lacked is still asked, once the source is back."""
    supplements_at_once: int = 4


class LedgerSection(Section, frozen=True, kw_only=True):
    url: str = ""
    """Empty: SQLite in the state folder. Or postgresql+psycopg://..."""
    group_rows: int = 64
    """Rows (records and changes) that share one transaction, about. What waits while one is being
    synced goes into the next together: there is no delay on purpose."""
    queue: int = 4096
    own_process: bool = True
    """`run` writes it in a process of its own; false: in a thread of the daemon's."""
    stall_s: float = 5.0
    """A disk that has not answered for so long hangs: officers are told, and new writes refused."""
    keep_days: int = 31
    """What was asked and shown is destroyed by then; who asked, when and why stays in the audit."""


class AnchorSection(Section, frozen=True, kw_only=True):
    """A place off this host that is given each head of the audit."""

    kind: str
    """file (on another mount), syslog or http."""
    path: str = ""
    """file: where the heads are appended."""
    address: str = ""
    """syslog: udp://host:port, tcp://host:port, tls://host:port or unix:///dev/log."""
    url: str = ""
    """http: PUT takes a head, GET gives the newest."""
    ca_file: str = ""
    token_file: str = ""


class AuditSection(Section, frozen=True, kw_only=True):
    heads_every_s: float = 60.0
    heads_every: int = 1000
    """Records after which a head is signed; sooner when heads_every_s are over."""
    key_file: str = ""
    """Empty: made in the state folder. Else a PEM file with an Ed25519 key."""
    alarm_after_s: float = 180.0
    """An anchor that has taken no head for so long while there was one is said."""
    anchors: tuple[AnchorSection, ...] = ()


class HistorySection(Section, frozen=True, kw_only=True):
    enabled: bool = True
    queue: int = 10000
    keep_days: int = 31


class AuthSection(Section, frozen=True, kw_only=True):
    """How operators log in (adapters.web)."""

    mode: str = "local"
    """local: id and password of the people file. oidc: an identity provider says who it is."""
    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    redirect_url: str = ""
    """Our own /login/callback, as the provider knows it."""
    role_claim: str = "groups"
    roles: dict[str, str] = msgspec.field(default_factory=dict)
    """Value of that claim -> role. Where there are any, a role counts only when provider and
    people file both give it."""
    require_acr: str = ""
    """The authentication context that the provider must have reached, say by a second factor."""
    allow_local_in_production: bool = False
    """Passwords alone are no second factor: production must mean it."""
    idle_s: float = 900.0
    absolute_s: float = 43_200.0
    sessions_each: int = 2


class HttpSection(Section, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    """Off loopback only with TLS."""
    port: int = 8080
    names: tuple[str, ...] = ()
    """By which browsers may call us, besides `host` and those of loopback."""
    cert_file: str = ""
    key_file: str = ""
    min_tls: str = "1.3"
    """1.3, or 1.2 for clients that know no better."""
    metrics_from: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that may read /metrics and /readyz without a token."""
    metrics_token_file: str = ""
    """A bearer token with which anybody may."""
    per_session_per_s: float = 20.0
    max_connections: int = 1000
    max_per_address: int = 50
    header_deadline_s: float = 5.0
    body_deadline_s: float = 10.0


class MessagesSection(Section, frozen=True, kw_only=True):
    """Messages of the control room to one unit (unit_messages.py)."""

    per_minute: int = 10
    """Of one operator, and to one radio; one more is refused."""
    length: int = 200
    """Characters, as a radio shows them."""
    stale_s: float = 600.0
    """One that its officer did not get by then is never delivered."""


class LoneSection(Section, frozen=True, kw_only=True):
    """Lone workers' timers (lone_worker.py)."""

    interval_s: float = 900.0
    """A lone worker who did nothing for so long is overdue."""
    warn_s: float = 60.0
    """So long before they are asked for a word."""
    positions: bool = False
    """Whether a position extends the timer, too."""


class AlarmsSection(Section, frozen=True, kw_only=True):
    file: str = "alarms.toml"
    grace_s: float = 30.0
    """After the start rules with `grace` raise nothing: little is known yet."""


class RecordSection(Section, frozen=True, kw_only=True):
    """What links heard, byte by byte, for finding faults (docs/recording.md). Off."""

    links: tuple[str, ...] = ()
    """Names of the links that are recorded; none, and nothing is."""
    by: str = ""
    """Who switched it on, and why: on record at each start."""
    why: str = ""
    folder: str = "recordings"
    """Relative to the state folder unless absolute."""
    public_key_file: str = ""
    """Sealed to this key: the host itself cannot read it."""
    key_file: str = ""
    """Or with this one, which the host has."""
    max_mib: int = 16
    files: int = 8
    keep_days: int = 7
    queue: int = 4096
    """What may wait for the disk; more is not recorded, and counted."""


class Settings(Section, frozen=True, kw_only=True):
    """The whole file, by section."""

    gateway: GatewaySection = GatewaySection()
    checks: ChecksSection = ChecksSection()
    book: BookSection = BookSection()
    slots: SlotsSection = SlotsSection()
    limits: LimitsSection = LimitsSection()
    tracking: TrackingSection = TrackingSection()
    pnc: PncSection = PncSection()
    register: RegisterSection = RegisterSection()
    ledger: LedgerSection = LedgerSection()
    audit: AuditSection = AuditSection()
    history: HistorySection = HistorySection()
    http: HttpSection = HttpSection()
    auth: AuthSection = AuthSection()
    alarms: AlarmsSection = AlarmsSection()
    messages: MessagesSection = MessagesSection()
    lone: LoneSection = LoneSection()
    record: RecordSection = RecordSection()
    serial: tuple[SerialSection, ...] = ()
    mqtt: tuple[BrokerSection, ...] = ()
    cot: tuple[CotSection, ...] = ()
    tetra: tuple[TetraSection, ...] = ()
    gpsd: tuple[GpsdSection, ...] = ()
    owntracks: tuple[OwnTracksSection, ...] = ()
    osmand: tuple[OsmandSection, ...] = ()

    @property
    def links(self) -> tuple[LinkSection, ...]:
        """Every line and broker, in the order of the file's kinds."""
        return tuple(section for _, section in self.link_tables)

    @property
    def link_tables(self) -> tuple[tuple[str, LinkSection], ...]:
        """The same, each with its table's name."""
        kinds: tuple[tuple[str, tuple[LinkSection, ...]], ...] = (
            ("serial", self.serial),
            ("mqtt", self.mqtt),
            ("tetra", self.tetra),
            ("gpsd", self.gpsd),
            ("owntracks", self.owntracks),
            ("osmand", self.osmand),
        )
        return tuple((table, section) for table, sections in kinds for section in sections)


LinkSection = (
    SerialSection | BrokerSection | TetraSection | GpsdSection | OwnTracksSection | OsmandSection
)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was read, checked together."""

    path: Path
    settings: Settings
    fleet: Fleet
    people: People
    areas: Areas
    policy: Policy
    warnings: Warnings
    alarms: AlarmRules
    policy_bytes: bytes = b""
    """The policy's file as it stands, and the seal beside it: two persons approve bytes."""
    policy_seal: str = ""
    digest: str = ""
    """Of the files, in this order: their SHA-256, its first 16 hex digits. On every record."""

    @property
    def state_dir(self) -> Path:
        return resolve(self.path, self.settings.gateway.state_dir)


def sample_folder() -> Path:
    """config/ of the checkout, or the copy that the package carries."""
    here = Path(__file__).resolve().parent
    beside = here.parent / "config"
    return beside if beside.is_dir() else here / "_data" / "config"


def resolve(base: Path, value: str) -> Path:
    """A path of the file `base`: relative ones are relative to its folder."""
    path = Path(value)
    return path if path.is_absolute() else base.parent / path


_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")


def load(path: Path) -> Config:
    """Read and check the whole configuration, or raise ConfigError with every finding."""
    findings: list[str] = []
    raw = _decode(path, findings)
    if raw is None:
        raise ConfigError(findings)
    settings = _convert(path, raw, Settings, findings) or Settings(gateway=_salvaged(raw))
    named = settings.gateway
    fleet = _read(resolve(path, named.fleet), Fleet, findings)
    people = _read(resolve(path, named.people), People, findings)
    areas = _read(resolve(path, named.areas), Areas, findings)
    policy = _read(resolve(path, named.policy), Policy, findings)
    policy_bytes, policy_seal = _sealed(resolve(path, named.policy), policy, findings)
    warnings = _read(resolve(path, named.warnings), Warnings, findings)
    alarms = _read(resolve(path, settings.alarms.file), AlarmRules, findings)
    tell(path, _check_settings(path, settings, fleet), findings)
    if fleet:
        found = check_fleet(fleet, areas) + _unheard_of(settings, fleet)
        tell(resolve(path, named.fleet), found, findings)
    if people:
        production = named.profile == "production"
        found = check_people(people, fleet, production=production)
        found += check_operators(people, fleet, areas)
        tell(resolve(path, named.people), found, findings)
    if areas:
        tell(resolve(path, named.areas), check_areas(areas), findings)
    if policy:
        tell(resolve(path, named.policy), check_policy(policy), findings)
    if warnings:
        tell(resolve(path, named.warnings), check_warnings(warnings), findings)
    if alarms:
        tell(resolve(path, settings.alarms.file), alarm_rules.check(alarms), findings)
    if fleet is None or people is None or areas is None or policy is None:
        raise ConfigError(findings)
    if findings or warnings is None or alarms is None:
        raise ConfigError(findings)
    return Config(
        path=path,
        settings=settings,
        fleet=fleet,
        people=people,
        areas=areas,
        policy=policy,
        policy_bytes=policy_bytes,
        policy_seal=policy_seal,
        warnings=warnings,
        alarms=alarms,
        digest=_digest(
            path,
            *(resolve(path, name) for name in _files(settings)),
        ),
    )


def _files(settings: Settings) -> tuple[str, ...]:
    """The other files that make a configuration, as gateway.toml names them."""
    named = settings.gateway
    return (
        *(named.fleet, named.people, named.areas, named.policy, named.warnings),
        settings.alarms.file,
    )


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        # What was read a moment ago and is gone now is about to be noticed by the next reload.
        with contextlib.suppress(OSError):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sealed(path: Path, policy: Policy | None, findings: list[str]) -> tuple[bytes, str]:
    """The bytes that were read as this policy, and what seals them."""
    if policy is None:
        return b"", ""
    try:
        data = path.read_bytes()
        if msgspec.toml.decode(data, type=Policy) != policy:
            findings.append(f"{path.name}: changed while it was read; try again")
        seal = path.with_name(f"{path.name}.seal")
        return data, seal.read_text("utf-8") if seal.exists() else ""
    except (OSError, ValueError) as error:
        findings.append(f"{path.name}.seal: cannot be read: {type(error).__name__}")
        return b"", ""


def _read(path: Path, type_: type[T], findings: list[str]) -> T | None:
    """One file, with every fault of it told; None when there is any."""
    raw = _decode(path, findings)
    if raw is None:
        if type_ in _NEW and not path.exists():
            findings[-1] += f"; {_NEW[type_]}"
        return None
    return _convert(path, raw, type_, findings)


def _decode(path: Path, findings: list[str]) -> Any:
    try:
        return msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        findings.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        findings.append(f"{path.name}: not UTF-8")
    except msgspec.DecodeError as error:
        findings.append(f"{path.name}: not TOML: {error}")
    except (ValueError, RecursionError):
        # The library lets these through: a figure of thousands of digits, brackets without end.
        findings.append(f"{path.name}: not TOML: a value too long or too deep")
    return None


def _convert(path: Path, raw: Any, type_: type[T], findings: list[str]) -> T | None:
    found = []
    moved: set[str] = set()
    for place, reason in faults(raw, type_):
        hint = _moved(type_, place, reason)
        if hint not in moved:
            found.append(f"{spelt(place)}: {hint or reason}")
        if hint:
            moved.add(hint)
    tell(path, found, findings)
    return None if found else msgspec.convert(raw, type_)


_NEW: dict[type, str] = {
    People: "officers stand in a file of their own; a sample lies in config/people.toml",
    Areas: "areas stand in a file of their own; a sample lies in config/areas.toml",
}
_MOVED: dict[tuple[type, tuple[str, ...], str], str] = {
    **{
        (Fleet, ("terminals", key), "unknown"): "officers stand in people.toml now: move officer"
        " (as collar), surname, rank and role of every terminal there"
        for key in ("officer", "surname", "rank", "role")
    },
    (Fleet, ("areas",), "unknown"): "stands in areas.toml now: move it there",
    (Fleet, ("statuses",), "Expected object, got str"): 'is { shown = "AVL" } now, and so is every'
    " status; the one for `received` (15) has to be named, too",
    (Policy, ("reasons",), "Expected object, got str"): 'is { label = "..." } now, and so is every'
    " reason",
}
"""What stood elsewhere, or otherwise, before: (of which file, where, how it is found) -> what to
do. Said once a file, however often it stands there."""


def _moved(type_: type, place: Place, reason: str) -> str:
    steps = tuple(step for step in place if isinstance(step, str))
    if steps[:1] in {("statuses",), ("reasons",)}:
        steps = steps[:1]
    return next(
        (
            text
            for (of, where, found), text in _MOVED.items()
            if of is type_ and where == steps and reason.startswith(found)
        ),
        "",
    )


def _salvaged(raw: Any) -> GatewaySection:
    """Which other files a faulty one names, so that their faults are told, too."""
    try:
        return msgspec.convert(raw.get("gateway", {}), GatewaySection)
    except msgspec.ValidationError:
        return GatewaySection()


def tell(path: Path, found: list[str], findings: list[str]) -> None:
    """Put the faults of one file among the findings, each with its file and, if known, its line."""
    if found:
        lines = Lines(path.read_text("utf-8"))
        findings += [f"{path.name}: {lines.told(text)}" for text in found]


def _check_settings(path: Path, settings: Settings, fleet: Fleet | None) -> list[str]:
    found: list[str] = []
    gateway, checks, http, pnc = settings.gateway, settings.checks, settings.http, settings.pnc
    if not _NAME.match(gateway.instance):
        found.append("gateway.instance: letters a-z, digits and `-`, at most 32")
    if not _is_zone(gateway.timezone):
        found.append("gateway.timezone: no such zone; an IANA name, as Europe/London")
    if gateway.profile not in ("training", "production"):
        found.append("gateway.profile: training or production")
    found += [f"http.{text}" for text in _check_http(path, http)]
    found += [f"auth.{text}" for text in _check_auth(path, settings)]
    for name, value in (
        ("deadline_s", checks.deadline_s),
        ("stale_s", checks.stale_s),
        ("resend_s", checks.resend_s),
        ("hit_again_s", checks.hit_again_s),
        ("not_free_remind_s", checks.not_free_remind_s),
        *((f"deadlines_s.{kind}", seconds) for kind, seconds in checks.deadlines_s.items()),
    ):
        if not 0 < value <= 3600:
            found.append(f"checks.{name}: between 0 and 3600 seconds, not {value}")
    for kind in checks.deadlines_s:
        if kind not in {k.value for k in Kind}:
            found.append(f"checks.deadlines_s.{kind}: unknown kind")
    if not 0 <= checks.retries <= 2:
        found.append("checks.retries: 0 to 2")
    for name, count in (("concurrency", checks.concurrency), ("queue", checks.queue)):
        if count < 1:
            found.append(f"checks.{name}: at least 1")
    found += _out_of_range(
        ("ledger.stall_s", settings.ledger.stall_s, 0.5, 60),
        # A repeat is told from a new question for a day, and a round of purging takes a day.
        ("ledger.keep_days", settings.ledger.keep_days, 2, 3650),
        ("history.keep_days", settings.history.keep_days, 1, 3650),
    )
    found += _out_of_range(
        ("register.supplement_s", settings.register.supplement_s, 0, 3600),
        ("register.supplements_at_once", settings.register.supplements_at_once, 1, 64),
    )
    found += _check_audit(settings)
    book = settings.book
    found += _out_of_range(
        ("book.hours", book.hours, 0.1, 24),
        ("book.attempts", book.attempts, 1, 20),
        ("book.lock_s", book.lock_s, 1, 86400),
        ("book.memory_kib", book.memory_kib, 64, 262144),
        ("book.at_once", book.at_once, 1, 8),
        ("book.window_s", book.window_s, 5, 600),
        ("book.broker_holds_s", book.broker_holds_s, 1, 125),
    )
    found += [f"limits.{text}" for text in _check_limits(settings.limits)]
    found += [f"slots.{text}" for text in _check_slots(settings.slots)]
    found += [f"messages.{text}" for text in _check_messages(settings.messages)]
    found += [f"lone.{text}" for text in _check_lone(settings.lone)]
    asked: list[tuple[str, PncSection | RegisterSection]] = [("pnc", pnc)]
    asked.append(("register", settings.register))
    for name, section in asked:
        if section.adapter == "http" and not section.url:
            found.append(f"{name}.url: needed by adapter http")
        if section.adapter == "http" and not section.allow_remote and not _local_url(section.url):
            found.append(f"{name}.url: not on loopback; set {name}.allow_remote = true to mean it")
    places = [(f"serial[{n}]", line.name) for n, line in enumerate(settings.serial)]
    places += [(f"mqtt[{n}]", broker.name) for n, broker in enumerate(settings.mqtt)]
    places += [(f"gpsd[{n}]", each.name) for n, each in enumerate(settings.gpsd)]
    places += [(f"cot[{n}]", cot.name) for n, cot in enumerate(settings.cot)]
    places += [(f"tetra[{n}]", radio.name) for n, radio in enumerate(settings.tetra)]
    places += [(f"owntracks[{n}]", link.name) for n, link in enumerate(settings.owntracks)]
    places += [(f"osmand[{n}]", link.name) for n, link in enumerate(settings.osmand)]
    names = [name for _, name in places]
    for place, name in places:
        if not _NAME.match(name):
            found.append(f"{place}.name: letters a-z, digits and `-`, at most 32")
    found += [f"record.{text}" for text in _check_record(path, settings, names)]
    for name in {n for n in names if names.count(n) > 1}:
        found.append(f"link name {name}: used twice")
    ports = [link.port for link in settings.serial]
    ports += [radio.port for radio in settings.tetra]
    if len(set(ports)) != len(ports):
        found.append("serial.port: the same port stands in two links")
    for radio in settings.tetra:
        found += [f"tetra {radio.name}: {text}" for text in _check_radio(radio)]
    known = {terminal.issi for terminal in fleet.terminals} if fleet else None
    for link in settings.serial:
        if known is not None and link.terminal not in known:
            found.append(f"serial {link.name}: terminal: not in the fleet file")
        found += [f"serial {link.name}: {text}" for text in _check_line(link)]
    for broker in settings.mqtt:
        found += [f"mqtt {broker.name}: {text}" for text in _check_broker(path, broker)]
    feeds = {f"{broker.name}-feed" for broker in settings.mqtt if broker.feed}
    for cot in settings.cot:
        if cot.name in feeds:
            found.append(f"link name {cot.name}: a broker's feed has it")
        found += [f"cot {cot.name}: {text}" for text in _check_cot(path, cot, fleet)]
    for receiver in settings.gpsd:
        if known is not None and receiver.terminal not in known:
            found.append(f"gpsd {receiver.name}: terminal: not in the fleet file")
        found += [f"gpsd {receiver.name}: {text}" for text in _check_gpsd(receiver)]
    for listener in settings.osmand:
        found += [f"osmand {listener.name}: {text}" for text in _check_osmand(path, listener)]
    doors = [(http.host, http.port), *((each.host, each.port) for each in settings.osmand)]
    if len(set(doors)) != len(doors):
        found.append("osmand.port: something else listens there already")
    for phones in settings.owntracks:
        found += [f"owntracks {phones.name}: {text}" for text in _check_phones(path, phones)]
    sessions = [
        (broker.host, broker.port, broker.client_id)
        for broker in (*settings.mqtt, *settings.owntracks)
    ]
    if len(set(sessions)) != len(sessions):
        # Each would throw the other off, for ever.
        found.append("mqtt: the same client_id stands twice at one broker")
    return found


_ANCHORS = {"file": "path", "syslog": "address", "http": "url"}
_SYSLOG = re.compile(
    r"((udp|tcp|tls)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}|unix:///.+)\Z"
)


def _check_audit(settings: Settings) -> list[str]:
    audit = settings.audit
    found = _out_of_range(
        ("audit.heads_every_s", audit.heads_every_s, 1, 60),
        ("audit.heads_every", audit.heads_every, 1, 1000),
        ("audit.alarm_after_s", audit.alarm_after_s, 10, 86_400),
    )
    if settings.gateway.profile == "production" and not audit.anchors:
        found.append("audit.anchors: profile production needs one: heads must leave this host")
    for n, anchor in enumerate(audit.anchors):
        place, needs = f"audit.anchors[{n}]", _ANCHORS.get(anchor.kind)
        if needs is None:
            found.append(f"{place}.kind: one of {', '.join(_ANCHORS)}")
            continue
        for key in _ANCHORS.values():
            if bool(getattr(anchor, key)) != (key == needs):
                how = "needed" if key == needs else "not used"
                found.append(f"{place}.{key}: {how} by {anchor.kind}")
        if anchor.kind == "syslog" and anchor.address and not _SYSLOG.match(anchor.address):
            found.append(f"{place}.address: udp://, tcp:// or tls://host:port, or unix:///path")
        if anchor.kind == "http" and anchor.url and not _anchor_url(anchor.url):
            found.append(f"{place}.url: https://, or http:// on loopback")
    return found


def _anchor_url(url: str) -> bool:
    return url.startswith("https://") or (url.startswith("http://") and _local_url(url))


def _check_limits(limits: LimitsSection) -> list[str]:
    return _out_of_range(
        ("per_s", limits.per_s, 0.1, 1e6),
        ("burst", limits.burst, 1, 1_000_000),
        ("officer_per_hour", limits.officer_per_hour, 1, 1e9),
        ("officer_burst", limits.officer_burst, 1, 1_000_000),
        ("fixes_per_s", limits.fixes_per_s, 0.1, 1e6),
        ("fixes_burst", limits.fixes_burst, 1, 1_000_000),
        ("all_per_s", limits.all_per_s, limits.per_s, 1e6),
        ("all_burst", limits.all_burst, limits.burst, 1_000_000),
        ("all_fixes_per_s", limits.all_fixes_per_s, limits.fixes_per_s, 1e6),
        ("all_fixes_burst", limits.all_fixes_burst, limits.fixes_burst, 1_000_000),
    )


def _check_lone(lone: LoneSection) -> list[str]:
    return _out_of_range(
        ("interval_s", lone.interval_s, 30, 14400),
        ("warn_s", lone.warn_s, 5, lone.interval_s / 2),
    )


def _check_record(path: Path, settings: Settings, names: list[str]) -> list[str]:
    record = settings.record
    found = _out_of_range(
        ("max_mib", record.max_mib, 1, 1024),
        ("files", record.files, 2, 1000),
        ("keep_days", record.keep_days, 1, settings.ledger.keep_days),
        ("queue", record.queue, 16, 1_000_000),
    )
    found += [f"links: no link is called {each}" for each in record.links if each not in names]
    for key in ("by", "why") if record.links else ():
        said = getattr(record, key)
        if not 0 < len(said) <= 80 or not said.isprintable():
            found.append(f"{key}: who records what officers say, and why, goes on record")
    if record.public_key_file and record.key_file:
        found.append("key_file: not beside public_key_file")
    sealed = record.public_key_file or record.key_file
    if settings.gateway.profile == "production" and record.links and not sealed:
        found.append("public_key_file: profile production records nothing that is not sealed")
    for key in ("public_key_file", "key_file"):
        found += _missing(path, record, key)
    return found


def _check_messages(messages: MessagesSection) -> list[str]:
    return _out_of_range(
        ("per_minute", messages.per_minute, 1, 600),
        ("length", messages.length, 20, 400),
        ("stale_s", messages.stale_s, 10, 3600),
    )


def _check_slots(slots: SlotsSection) -> list[str]:
    found = _out_of_range(("release_s", slots.release_s, 1, 600))
    given = slots.below_l3_s
    if len(given) > 16 or list(given) != sorted(set(given)):
        found.append("below_l3_s: at most 16, each later than the one before")
    found += _out_of_range(*(("below_l3_s", slot_s, 0.1, 3600) for slot_s in given))
    return found


def _check_http(path: Path, http: HttpSection) -> list[str]:
    found: list[str] = []
    if http.host not in _LOOPBACK and not http.cert_file:
        found.append("host: other than loopback (127.0.0.1) only with TLS: cert_file, key_file")
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(http, one) and not getattr(http, other):
            found.append(f"{one}: needs {other}")
    for key in ("cert_file", "key_file", "metrics_token_file"):
        found += _missing(path, http, key)
    if http.min_tls not in ("1.3", "1.2"):
        found.append("min_tls: 1.3 or 1.2")
    for place, network in enumerate(http.metrics_from):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            found.append(f"metrics_from[{place}]: a network, as 10.1.0.0/16")
    return found + _out_of_range(("per_session_per_s", http.per_session_per_s, 1, 100_000))


def _check_auth(path: Path, settings: Settings) -> list[str]:
    auth = settings.auth
    found = _out_of_range(
        ("idle_s", auth.idle_s, 1, 3600),
        ("absolute_s", auth.absolute_s, 1, 86_400),
        ("sessions_each", auth.sessions_each, 1, 1000),
    )
    if auth.mode not in ("local", "oidc"):
        found.append("mode: local or oidc")
    alone = auth.mode == "local" and not auth.allow_local_in_production
    if alone and settings.gateway.profile == "production":
        found.append("mode: oidc in profile production, or allow_local_in_production = true")
    for key in ("issuer", "redirect_url") if auth.mode == "oidc" else ():
        url = getattr(auth, key)
        if not url.startswith("https://") and not (url.startswith("http://") and _local_url(url)):
            found.append(f"{key}: https://, or http:// on loopback")
    if auth.mode == "oidc" and not auth.client_id:
        found.append("client_id: needed by mode oidc")
    if auth.mode == "oidc" and not auth.redirect_url.endswith("/login/callback"):
        found.append("redirect_url: ends with /login/callback")
    for value, role in auth.roles.items():
        if role not in ROLES:
            found.append(f"roles.{value}: one of {', '.join(ROLES)}")
    return found + _missing(path, auth, "client_secret_file")


_DEVICE_SERVER = re.compile(r"socket://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})\Z")


_SERVICE = re.compile(r"[0-3],[0-3](,[0-9]{1,3}){0,3}\Z")


def _check_port(port: str) -> list[str]:
    server = _DEVICE_SERVER.match(port)
    if server is None and not port.startswith("/"):
        return ["port: an absolute path, or socket://host:port"]
    if server is not None and not 0 < int(server.group(2)) < 65536:
        return ["port: socket://host:port with a port between 1 and 65535"]
    return []


def _check_radio(radio: TetraSection) -> list[str]:
    found = _check_port(radio.port)
    for key, text, most in (("mcc", radio.mcc, 1023), ("mnc", radio.mnc, 16_383)):
        if text and not (re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= most):
            found.append(f"{key}: a figure up to {most}, or empty")
    if not all(_SERVICE.match(service) for service in radio.services):
        found.append("services: each as AT+CTSP takes it, say 1,3,130")
    if radio.concatenation not in ("udh", "sds"):
        found.append("concatenation: udh or sds")
    return found + _out_of_range(
        ("baud", radio.baud, 300, 4_000_000),
        ("max_pdu_bits", radio.max_pdu_bits, 256, 2047),
        ("keep_alive_s", radio.keep_alive_s, 5, 300),
        ("renew_s", radio.renew_s, 30, 86400),
        ("air_s", radio.air_s, 2, 120),
        ("send_s", radio.send_s, 10, 600),
        ("queue", radio.queue, 8, 10_000),
        ("write_buffer", radio.write_buffer, 2048, 1_048_576),
        ("write_deadline_s", radio.write_deadline_s, 0.1, 60),
        ("silent_s", radio.silent_s, 1, 86400),
    )


def _check_line(link: SerialSection) -> list[str]:
    found = _check_port(link.port)
    if link.parity not in {"N", "E", "O", "M", "S"}:
        found.append("parity: one of N E O M S")
    if link.stop not in {1, 1.5, 2}:
        found.append("stop: 1, 1.5 or 2")
    found += _out_of_range(
        ("baud", link.baud, 50, 4_000_000),
        ("bits", link.bits, 5, 8),
        ("write_buffer", link.write_buffer, 2048, 1_048_576),
        ("write_deadline_s", link.write_deadline_s, 0.1, 60),
        ("silent_s", link.silent_s, 1, 86400),
    )
    if link.reference_date and not is_day(link.reference_date):
        found.append("reference_date: a day, as 2019-04-06")
    return found


def _out_of_range(*keys: tuple[str, float, float, float]) -> list[str]:
    """A line for each (key, value, least, most) whose value lies outside."""
    return [
        f"{key}: between {least} and {most}, not {value}"
        for key, value, least, most in keys
        if not least <= value <= most
    ]


_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}\Z")
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_LEVEL = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


def _check_broker(path: Path, broker: BrokerSection) -> list[str]:
    return [
        *_check_mqtt(path, broker, ("", "status_", "feed_")),
        *_out_of_range(("session_expiry_s", broker.session_expiry_s, 1, 604800)),
    ]


def _check_phones(path: Path, phones: OwnTracksSection) -> list[str]:
    return _check_mqtt(path, phones, ("",)) + _missing(path, phones, "keys_file")


_PHONE = re.compile(r"[^/+#]+/[^/+#]+")


def _unheard_of(settings: Settings, fleet: Fleet) -> list[str]:
    """What the fleet says of links and of topics, and there is none such: those units would never
    be heard or reached."""
    found: list[str] = []
    speaking = {each.name for each in settings.serial}
    speaking |= {each.name for each in settings.tetra} | {each.name for each in settings.mqtt}
    for place, terminal in enumerate(fleet.terminals):
        where = f"terminals[{place}]"
        if terminal.link not in ("", *speaking):
            found.append(f"{where}.link: no serial, tetra or mqtt section is called so")
        if settings.owntracks and not _PHONE.fullmatch(terminal.names.get("owntracks", "a/b")):
            found.append(f"{where}.names.owntracks: no phone is called so: user/device")
    return found


def _check_mqtt(
    path: Path, broker: BrokerSection | OwnTracksSection, sessions: tuple[str, ...]
) -> list[str]:
    found: list[str] = []
    if broker.version not in {"5", "3.1.1"}:
        found.append("version: 5 or 3.1.1")
    if not _LEVEL.match(broker.prefix):
        found.append("prefix: one level of a topic: letters, digits, `_`, `-`")
    if not _CLIENT_ID.match(broker.client_id):
        found.append("client_id: letters, digits, `.`, `_`, `-`, at most 64")
    found += _out_of_range(
        ("port", broker.port, 1, 65535),
        ("keepalive_s", broker.keepalive_s, 1, 30),
        ("max_payload", broker.max_payload, 256, 524288),
        ("silent_s", broker.silent_s, 1, 86400),
    )
    if not broker.host:
        found.append("host: missing")
    for session in sessions:
        user = getattr(broker, f"{session}username") or broker.username
        if getattr(broker, f"{session}password_file") and not user:
            found.append(f"{session}password_file: needs {session}username")
        if getattr(broker, f"{session}cert_file") and not broker.tls:
            found.append(f"{session}cert_file: needs tls = true")
        if getattr(broker, f"{session}key_file") and not getattr(broker, f"{session}cert_file"):
            found.append(f"{session}key_file: needs {session}cert_file")
        for key in ("password_file", "cert_file", "key_file"):
            found += _missing(path, broker, f"{session}{key}")
    if broker.ca_file and not broker.tls:
        found.append("ca_file: needs tls = true")
    return found + _missing(path, broker, "ca_file")


_COT_TYPE = re.compile(r"a(-[A-Za-z0-9]+)+\Z")
_UID_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def _check_cot(path: Path, cot: CotSection, fleet: Fleet | None) -> list[str]:
    found: list[str] = []
    if cot.transport not in ("tcp", "tls", "multicast"):
        found.append("transport: tcp, tls or multicast")
    group = _address(cot.host)
    if cot.transport == "multicast" and not (group is not None and group.is_multicast):
        found.append("host: an IPv4 group for multicast, as 239.2.3.1")
    if cot.transport != "multicast" and (
        not cot.host or (group is not None and group.is_multicast)
    ):
        found.append("host: a name or an address; a group needs transport multicast")
    local = cot.host in _LOOPBACK or (cot.transport == "multicast" and cot.ttl == 0)
    if cot.transport != "tls" and not local and not cot.allow_plain:
        found.append("transport: leaves this host unencrypted; set allow_plain = true to mean it")
    for key in ("ca_file", "cert_file", "key_file", "server_name"):
        if getattr(cot, key) and cot.transport != "tls":
            found.append(f"{key}: needs transport tls")
    if cot.key_file and not cot.cert_file:
        found.append("key_file: needs cert_file")
    if cot.interface and (cot.transport != "multicast" or _address(cot.interface) is None):
        found.append("interface: an IPv4 address of this host, with transport multicast")
    found += _out_of_range(
        ("port", cot.port, 1, 65535),
        ("ttl", cot.ttl, 0, 255),
        ("stale_s", cot.stale_s, 0, 86400),
        ("min_interval_s", cot.min_interval_s, 0, 600),
        # A call for help goes stale after 10 s.
        ("emergency_repeat_s", cot.emergency_repeat_s, 1, 8),
        ("write_deadline_s", cot.write_deadline_s, 0.1, 60),
    )
    if not _UID_PREFIX.match(cot.uid_prefix):
        found.append("uid_prefix: letters, digits, `.`, `_`, `-`, 1 to 64")
    if not _COT_TYPE.match(cot.type):
        found.append("type: of an atom, as a-f-G-U-C")
    for key, team in (("team", cot.team), *((f"teams.{area}", t) for area, t in cot.teams.items())):
        if team not in TEAMS:
            found.append(f"{key}: one of {', '.join(TEAMS)}")
    if cot.role not in TEAM_ROLES:
        found.append(f"role: one of {', '.join(TEAM_ROLES)}")
    if fleet is not None:
        if cot.agency and cot.agency not in fleet.agencies:
            found.append("agency: none of the fleet file's")
        # A narrowing that is misspelt would show nothing, and nobody would know why.
        areas = {terminal.area for terminal in fleet.terminals}
        found += [f"areas: {area}: no terminal has it" for area in cot.areas if area not in areas]
    for key in ("ca_file", "cert_file", "key_file"):
        found += _missing(path, cot, key)
    return found


def _address(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def _check_gpsd(receiver: GpsdSection) -> list[str]:
    found = _out_of_range(
        ("port", receiver.port, 1, 65535),
        ("ask_after_s", receiver.ask_after_s, 0.1, 60),
        ("silent_s", receiver.silent_s, 1, 86400),
    )
    if not _HOST.match(receiver.host):
        found.append("host: a name or an address")
    elif receiver.host not in _LOOPBACK and not receiver.allow_remote:
        found.append("host: not on loopback; set allow_remote = true to mean it")
    return found


def _check_osmand(path: Path, listener: OsmandSection) -> list[str]:
    found = _out_of_range(
        ("port", listener.port, 1, 65535),
        ("max_connections", listener.max_connections, 1, 10_000),
        ("max_per_address", listener.max_per_address, 1, 1000),
        ("per_address_per_s", listener.per_address_per_s, 0.1, 10_000),
        ("header_deadline_s", listener.header_deadline_s, 0.5, 60),
        ("body_deadline_s", listener.body_deadline_s, 0.5, 60),
        ("silent_s", listener.silent_s, 1, 86400),
    )
    if not _HOST.match(listener.host):
        found.append("host: a name or an address")
    elif listener.host not in _LOOPBACK:
        if not listener.token_file:
            found.append("token_file: needed off loopback: anybody could say where a unit is")
        if not listener.cert_file and not listener.allow_plain:
            found.append("cert_file: needed off loopback; or set allow_plain = true to mean it")
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(listener, one) and not getattr(listener, other):
            found.append(f"{one}: needs {other}")
    for key in ("token_file", "cert_file", "key_file"):
        found += _missing(path, listener, key)
    if listener.min_tls not in ("1.3", "1.2"):
        found.append("min_tls: 1.3 or 1.2")
    if listener.speed_unit not in ("kn", "kmh", "mps"):
        found.append("speed_unit: kn, kmh or mps")
    return found


def _missing(path: Path, section: Section, key: str) -> list[str]:
    value = getattr(section, key)
    return [f"{key}: no such file"] if value and not resolve(path, value).is_file() else []


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _local_url(url: str) -> bool:
    host = re.match(r"https?://(\[[^]]*\]|[^/:]*)", url)
    return bool(host) and host is not None and host.group(1).strip("[]") in _LOOPBACK
