"""The composition root: the one module that imports adapters and opens the TaskGroup.

Reads like a table of contents: what there is, how it is wired, how it starts, how it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from adapters import (
    anchors,
    client_tls,
    codecs,
    history,
    host_token,
    ledger,
    links,
    mqtt_access,
    pnc,
    recordings,
    register,
    relays,
)
from adapters.codecs import keysds
from adapters.codecs.hush import hush_of
from adapters.codecs.keysds import FACTOR
from adapters.keyed import open_keyed
from adapters.ledger import process as ledger_process
from adapters.ledger.apart import prove_apart
from adapters.ledger.process import LedgerProcess
from adapters.ledger.remote import open_remote
from adapters.observers.journal import StructJournal
from adapters.observers.loop_lag import LoopLag
from adapters.observers.prometheus import PrometheusMeter
from adapters.passwords import MEMORY_KIB, Passwords
from adapters.seals import Ed25519Seals, new_key, sign
from adapters.server_tls import Certificate
from adapters.systemd import Notifier
from adapters.web import LogIns, WebServer, tell_export
from gateway import __version__, settings
from gateway.anchor_watch import AnchorWatch
from gateway.bus import EventBus
from gateway.cert_watch import CertWatch, Life
from gateway.chain_watch import ChainWatch, prover
from gateway.check_memory import under_key
from gateway.core import Core
from gateway.errors import AnchorFailed, ConfigError, LedgerError, LedgerUnavailable
from gateway.findings import nearest
from gateway.messages import LinkState, Secret
from gateway.policy_seal import PREFIX, SEAL
from gateway.ports import (
    Anchor,
    Clock,
    Factors,
    History,
    IdentityProvider,
    Ids,
    Journal,
    Keyed,
    Ledger,
    Link,
    OwnLedger,
    Pnc,
    Record,
    Returns,
    Tap,
    VehicleRegister,
    untapped,
)
from gateway.projection import HISTORY, METRICS
from gateway.receipts import export_detail, read_receipt
from gateway.retention import Purge, Retention
from gateway.settings import (
    AuditSection,
    BrokerSection,
    Config,
    CotSection,
    MqttSection,
    OsmandSection,
    resolve,
)
from gateway.supervise import keep

DRAIN_S = 4.0
"""SIGTERM ends within 5 s (docs/interfaces.md); what is left goes on after the next start."""
ANCHOR_S = 5.0
STOPPED_S = 1.0
"""A disk that hangs keeps nobody from stopping: then the stop is not on record."""
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O, U, so that a code survives being read aloud."""


MACHINE = Path("/etc/machine-id")


class SystemClock:
    """The real time."""

    def __init__(self) -> None:
        try:
            machine = MACHINE.read_bytes().strip()
        except OSError:
            machine = b""
        # The machine's own id is nobody else's to read (machine-id(5)).
        self.counter = (
            hashlib.sha256(b"radio-gateway" + machine).hexdigest()[:16] if machine else ""
        )

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class SystemIds:
    """Ids from the system's own randomness.

    A check's id is 10 characters of time, 12 of chance and 4 that run on, also over a restart
    (`go_on_after`): the short form that is spoken repeats only after 32,768 records.
    """

    def __init__(self) -> None:
        self._short = secrets.randbelow(8 * 4096)

    def go_on_after(self, records: int) -> None:
        """Begin behind the short forms of earlier runs. Every check that anybody was told of has a
        record of its own, so the number of records is never behind that of checks: a short form
        that is still on somebody's screen cannot be given to another check."""
        self._short = records % (8 * 4096)

    def check(self) -> str:
        self._short = (self._short + 1) % (8 * 4096)
        letter, number = divmod(self._short, 4096)
        moment = _base32(time.time_ns() // 1_000_000, 10)
        return f"{moment}{_chance(12)}{'CDEFGHJK'[letter]}{number:03X}"

    def receipt(self) -> str:
        return f"{_chance(4)}-{_chance(4)}"

    def occurrence(self) -> str:
        return f"{_base32(time.time_ns() // 1_000_000, 10)}{_chance(4)}"

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * secrets.randbelow(1 << 30) / (1 << 30)


def _base32(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        value, digit = divmod(value, 32)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


class _Chance:
    """Letters by the system's own randomness, of which a block is read at a time: a read is a call
    of the kernel, and a check needs three. What was given out is not kept."""

    _BLOCK = 512

    def __init__(self) -> None:
        self._left = ""

    def __call__(self, length: int) -> str:
        if len(self._left) < length:
            # 32 letters: five bits of a byte choose one, all alike.
            self._left = "".join([ALPHABET[each & 31] for each in secrets.token_bytes(self._BLOCK)])
        told, self._left = self._left[:length], self._left[length:]
        return told


_chance = _Chance()


class Gateway:
    """The whole daemon, built from one checked configuration.

    `run` starts everything, calls `ready` when it can take questions, and returns an exit code when
    `stop` was called or something fatal happened.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        journal: Journal | None = None,
        meter: PrometheusMeter | None = None,
        ledger_process: LedgerProcess | None = None,
    ) -> None:
        """ledger_process: writes the ledger; None: a thread of this process does."""
        self.config = config
        self._ledger_process = ledger_process
        self.clock = clock or SystemClock()
        self.ids = ids or SystemIds()
        self.meter = meter or _meter_for(config)
        self.journal = journal or StructJournal(sys.stdout, meter=self.meter)
        self.bus = EventBus(self.clock, meter=self.meter)
        self.http_url = ""
        self.core: Core | None = None
        self._server: WebServer | None = None
        self._systemd = Notifier()
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._certificates = CertWatch(
            self._read_certificates, clock=self.clock, meter=self.meter, journal=self.journal
        )
        self._reloading = asyncio.Lock()
        self._known_by: dict[str, str] = {}
        self._again: dict[str, asyncio.Event] = {}
        self._recorder = self._make_recorder()

    def stop(self, exit_code: int = 0) -> None:
        """Begin to drain; `run` returns soon after. Safe to call twice."""
        self._exit_code = max(self._exit_code, exit_code)
        self._stopping.set()

    async def run(self, ready: Callable[[], None] | None = None) -> int:
        """Everything from start to drained stop. Raises LedgerError when it cannot even begin."""
        section = self.config.settings
        async with contextlib.AsyncExitStack() as stack:
            keeper = AnchorWatch(
                anchors_of(self.config),
                clock=self.clock,
                ids=self.ids,
                meter=self.meter,
                journal=self.journal,
                alarm_after_s=section.audit.alarm_after_s,
            )
            anchored = await keeper.newest()
            stack.push_async_callback(keeper.close)
            store = await self._open_ledger(keeper, anchored)
            stack.push_async_callback(store.close)
            keyed = await asyncio.to_thread(open_keyed, self.config.state_dir)
            await store.hide_questions(partial(under_key, keyed))
            book = self.config.settings.book
            factors = Passwords(memory_kib=book.memory_kib, at_once=book.at_once)
            stack.callback(factors.close)
            if isinstance(self.ids, SystemIds):
                self.ids.go_on_after((await store.head())[0])
            past = await history.open_history(
                section.history, state_dir=self.config.state_dir, meter=self.meter
            )
            stack.push_async_callback(past.close)
            source = pnc.create(
                section.pnc.adapter,
                settings=section.pnc,
                config_path=self.config.path,
                clock=self.clock,
                ids=self.ids,
            )
            stack.push_async_callback(source.close)
            vehicles = register.create(
                section.register.adapter,
                settings=section.register,
                config_path=self.config.path,
                clock=self.clock,
            )
            if vehicles is not None:
                stack.push_async_callback(vehicles.close)
            core = self._wire(store, source, vehicles, past, keyed, factors)
            await core.begin()
            keeper.told = core.causes.anchor_is_behind
            if store.gap:
                core.causes.records_are_missing()
            await self._record_links(core, stack)
            stack.push_async_callback(self._drain, core)
            self._server = await self._serve_http(core, keyed, factors, stack)
            await self._serve(core, keeper, self._retention(store.purge), ready)
        self.journal.note("stopped", exit=self._exit_code)
        return self._exit_code

    async def _open_ledger(self, keeper: AnchorWatch, anchored: Mapping[str, bytes]) -> OwnLedger:
        opener: Callable[..., Awaitable[OwnLedger]] = ledger.open_ledger
        if self._ledger_process is not None:
            opener = partial(open_remote, self._ledger_process)
        section = self.config.settings
        return await opener(
            section.ledger,
            state_dir=self.config.state_dir,
            instance=section.gateway.instance,
            meter=self.meter,
            journal=self.journal,
            clock=self.clock,
            audit=_audit_of(self.config),
            anchored=anchored,
            headed=keeper.offer,
        )

    async def _serve_http(
        self, core: Core, keyed: Keyed, factors: Factors, stack: contextlib.AsyncExitStack
    ) -> WebServer:
        """The page and the API, with who may log in."""
        section, state_dir = self.config.settings, self.config.state_dir
        log_ins = LogIns(
            section.auth,
            operators=lambda: core.operators,
            factors=factors,
            keyed=keyed,
            ledger=core.ledger,
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
            provider=_provider_of(self.config, self.clock),
        )
        await log_ins.restore()
        core.minded.append(log_ins)
        token = await asyncio.to_thread(host_token.make, state_dir)
        stack.callback(host_token.drop, state_dir)
        server = WebServer(
            section.http,
            core.board,
            meter=self.meter,
            clock=self.clock,
            log_ins=log_ins,
            host_token=token,
            metrics_token=_secret_of(self.config, section.http.metrics_token_file),
            certificate=_certificate_of(self.config),
            parse=keysds.parse,
            intervals=section.tracking.staleness_s,
            version=__version__,
        )
        self.http_url = await server.start()
        stack.push_async_callback(server.stop)
        return server

    def _wire(
        self,
        store: Ledger,
        source: Pnc,
        vehicles: VehicleRegister | None,
        past: History,
        keyed: Keyed,
        factors: Factors,
    ) -> Core:
        self.bus.tap(past.keep, HISTORY)
        self.bus.tap(self.meter.seen, METRICS)
        core = Core(
            self.config,
            clock=self.clock,
            ids=self.ids,
            meter=self.meter,
            journal=self.journal,
            bus=self.bus,
            ledger=store,
            pnc=source,
            keyed=keyed,
            factors=factors,
            seals=Ed25519Seals(),
            register=vehicles,
            fatal=lambda _error: self.stop(1),
        )
        for each in self.config.settings.links:
            core.links[each.name] = self._make_link(each, core)
        core.board.prove = self._prove
        self.core = core
        return core

    async def _prove(self, receipt: str) -> bytes | None:
        """Read-only, in a process of its own, as `audit show` does."""
        return await prove_apart(self.config.settings.ledger, self.config.state_dir, receipt)

    async def _serve(
        self,
        core: Core,
        keeper: AnchorWatch,
        retention: Retention,
        ready: Callable[[], None] | None,
    ) -> None:
        """Everything that runs until somebody says stop, in one TaskGroup."""
        self._known_by = await asyncio.to_thread(_known_by, self.config)
        for broker in self.config.settings.mqtt:
            for name in (broker.name, f"{broker.name}-feed"):
                self._again[name] = asyncio.Event()
        self._again |= {cot.name: asyncio.Event() for cot in self.config.settings.cot}
        self._again |= {each.name: asyncio.Event() for each in self.config.settings.owntracks}
        self._again |= {each.name: asyncio.Event() for each in self.config.settings.osmand}
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._guard(
                        _runner(core, link),
                        link.name,
                        link.kind,
                        core,
                        link.returned if isinstance(link, Returns) else None,
                    )
                )
                for link in core.links.values()
            ]
            for relay in self._relays(core):
                tasks.append(group.create_task(self._guard(relay.run, relay.name, "relay", core)))
            tasks.append(group.create_task(core.courier.tend(), name="courier"))
            tasks.append(group.create_task(core.mind(), name="minder"))
            if certificates_of(self.config):
                tasks.append(group.create_task(self._certificates.run(), name="certificate watch"))
            proofs = ChainWatch(
                prover(self.config.path),
                clock=self.clock,
                meter=self.meter,
                journal=self.journal,
                told=core.causes.chain_verifies,
            )
            tasks.append(group.create_task(proofs.run(), name="chain watch"))
            tasks.append(group.create_task(retention.run(), name="retention"))
            tasks.append(group.create_task(keeper.run(), name="anchors"))
            tasks.append(
                group.create_task(LoopLag(self.meter, self.journal).run(), name="loop lag")
            )
            tasks.append(
                group.create_task(
                    self._systemd.watchdog(lambda: core.started and core.ledger_ok),
                    name="watchdog",
                )
            )
            self._systemd.ready()
            self.journal.note("ready", version=__version__)
            if ready is not None:
                ready()
            await self._stopping.wait()
            self._systemd.stopping()
            self.journal.note("stopping")
            for task in tasks:
                task.cancel()

    def _retention(self, purge: Purge) -> Retention:
        section = self.config.settings.ledger
        folder = self.config.state_dir

        async def overdue(before_ms: int) -> int:
            return await asyncio.to_thread(
                ledger.moved_aside, section, state_dir=folder, before_ms=before_ms
            )

        return Retention(
            purge,
            overdue,
            keep_days=section.keep_days,
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
            fatal=lambda _error: self.stop(1),
        )

    async def _drain(self, core: Core) -> None:
        """Put the stop on record after what was under way; every step has its deadline."""
        await core.drain(DRAIN_S)
        with contextlib.suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(STOPPED_S):
                await core.ledger.commit([core.life_record("stopped")])

    # ----------------------------------------------------------------- recording

    def _make_recorder(self) -> recordings.Recorder | None:
        """Of the links that are to be recorded. Raises ConfigError for a key that is none."""
        section = self.config.settings.record
        if not section.links:
            return None
        abouts = link_abouts(self.config, section.links)
        return recordings.Recorder(
            section,
            folder=self.config.state_dir / section.folder,
            key=_recording_key(self.config),
            instance=self.config.settings.gateway.instance,
            version=__version__,
            config=self.config.digest,
            links=abouts,
            hushes={each.name: hush_of(each.codec) for each in abouts},
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
        )

    async def _record_links(self, core: Core, stack: contextlib.AsyncExitStack) -> None:
        """On record first, by whom and what for; not one byte is kept before that."""
        if self._recorder is None:
            return
        section, key = self.config.settings.record, _recording_key(self.config)
        how = f"sealed with {key.fingerprint}" if key is not None else "not sealed"
        record = core.life_record("alteration", f"{'+'.join(section.links)} {how}: {section.why}")
        await core.ledger.commit(
            [msgspec.structs.replace(record, operation="recording.on", operator=section.by)]
        )
        self._recorder.begin()
        stack.push_async_callback(self._recorder.close)
        self.journal.note("recording", state="on", links=len(section.links))

    def _tap(self, link: str) -> Tap:
        if self._recorder is None or link not in self.config.settings.record.links:
            return untapped
        return self._recorder.tap(link)

    # ----------------------------------------------------------------- links

    def _make_link(self, section: Any, core: Core) -> Link:
        return links.create(
            section,
            instance=self.config.settings.gateway.instance,
            config_path=self.config.path,
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
            known=core.roster.may_call,
            codecs=codecs.create,
            suspect=core.security.seen,
            named=core.roster.called,
            tap=self._tap(section.name),
        )

    def _relays(self, core: Core) -> list[relays.Relay]:
        section = self.config.settings
        sections: list[BrokerSection | CotSection] = [each for each in section.mqtt if each.feed]
        sections += section.cot
        return [
            relays.create(
                each,
                instance=section.gateway.instance,
                exercise=section.gateway.profile == "training",
                config_path=self.config.path,
                bus=self.bus,
                present=core.present,
                clock=self.clock,
                meter=self.meter,
                journal=self.journal,
            )
            for each in sections
        ]

    async def _guard(
        self,
        run: Run,
        name: str,
        kind: str,
        core: Core,
        returned: Callable[[], bool] | None = None,
    ) -> None:
        """Keep one link; its third crash in a minute ends the process for a clean start."""
        try:
            await keep(
                run,
                name=name,
                clock=self.clock,
                ids=self.ids,
                journal=self.journal,
                meter=self.meter,
                seen=lambda state, reason: core.link_seen(name, kind, state, reason),
                returned=returned,
                again=self._again.get(name),
            )
        except Exception as error:  # noqa: BLE001 - unforeseen three times: systemd starts us anew
            self.journal.warn("task.restarted", task="link", link=name, error=type(error).__name__)
            self.stop(1)

    # ----------------------------------------------------------------- reload

    async def reload(self) -> bool:
        """SIGHUP: the whole configuration is checked first; a bad one changes nothing.

        People, policy and words are taken over at once, and so are renewed certificates and
        passwords: the connections that use them are opened anew, in the sessions that they have.
        Links, ledger and HTTP need a restart, and the journal says so.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> bool:
        core = self.core
        if core is None:
            return False
        self._systemd.reloading()
        try:
            config = await asyncio.to_thread(load, self.config.path)
            await core.take_policy(config, core.alterations(config))
        except ConfigError as error:
            for finding in error.findings:
                self.journal.warn("config.refused", finding=finding)
            return False
        except LedgerUnavailable:
            self.journal.warn("config.refused", finding="ledger unavailable: not put on record")
            return False
        finally:
            self._systemd.ready()
        restart = core.apply(config)
        await self._renew(core)
        self.meter.gauge("config_loaded_timestamp_seconds", self.clock.wall_ms() / 1000)
        self.journal.note("config.loaded", restart_needed=",".join(restart))
        return True

    async def _renew(self, core: Core) -> None:
        """Open anew what is known by other files now, and try at once what is down."""
        known_by = await asyncio.to_thread(_known_by, self.config)
        for known, before in self._known_by.items():
            for name in (known, f"{known}-feed"):
                again = self._again.get(name)
                if again and (known_by[known] != before or core.states.get(name) is LinkState.DOWN):
                    again.set()
        self._known_by = known_by
        if self._server is not None:
            try:
                await asyncio.to_thread(self._server.renew)
            except OSError:  # also what TLS makes of a torn or foreign file
                self.journal.warn("config.refused", finding="http.cert_file: the old one goes on")
        if certificates_of(self.config):
            await self._certificates.look()

    async def _read_certificates(self) -> dict[str, Life | None]:
        return await asyncio.to_thread(_lives, self.config)


CODECS = {"mqtt": "terminal_json", "gpsd": "gpsd_json"}
"""Table -> codec, where the section does not name one."""


def link_abouts(config: Config, names: Sequence[str]) -> list[recordings.LinkAbout]:
    """What a recording says of these links."""
    return [
        recordings.LinkAbout(
            name=each.name,
            kind=table,
            codec=getattr(each, "codec", CODECS.get(table, table)),
            section=msgspec.to_builtins(each),
        )
        for table, each in config.settings.link_tables
        if each.name in names
    ]


def _recording_key(config: Config) -> recordings.Key | None:
    """Raises ConfigError."""
    record = config.settings.record
    name = "public_key_file" if record.public_key_file else "key_file"
    if not (file := getattr(record, name)):
        return None
    try:
        key = recordings.read_key(resolve(config.path, file))
        if name == "public_key_file" and (not key.public or key.private):
            raise ValueError("not the public half of a key of X25519")
        if name == "key_file" and not key.shared:
            raise ValueError("not 32 octets in base64")
    except (OSError, ValueError) as error:
        findings: list[str] = []
        why = error.strerror if isinstance(error, OSError) else error
        settings.tell(config.path, [f"record.{name}: cannot be used: {why}"], findings)
        raise ConfigError(findings) from error
    return key


def recording_key(path: Path) -> Path:
    """A pair of keys for recordings; returns the public half's file. Raises OSError."""
    return recordings.make_key(path)


def anchors_of(config: Config) -> list[Anchor]:
    """Raises ConfigError for a file that would be lost with the ledger, in profile production."""
    gateway, audit = config.settings.gateway, config.settings.audit
    found = [
        f"audit.anchors[{n}].path: on the same file system as the state folder: off this host"
        for n, anchor in enumerate(audit.anchors)
        if gateway.profile == "production"
        and anchor.kind == "file"
        and anchors.on_this_disk(resolve(config.path, anchor.path), config.state_dir)
    ]
    if found:
        findings: list[str] = []
        settings.tell(config.path, found, findings)
        raise ConfigError(findings)
    return anchors.create(audit.anchors, config_path=config.path, instance=gateway.instance)


def seal_policy(policy: Path, key: Path, name: str) -> Path:
    """Add this approver's line to the seal beside the policy. Raises OSError, ValueError."""
    line = f"{name} {sign(key, PREFIX + policy.read_bytes())}\n"
    seal = policy.with_name(policy.name + SEAL)
    before = seal.read_text("utf-8").splitlines(keepends=True) if seal.exists() else []
    others = [each for each in before if each.partition(" ")[0] != name]
    seal.write_text("".join([*others, line]), "utf-8")
    return seal


def approver_key(path: Path) -> str:
    """A new private key in this file; returns what stands for it in the policy. Raises OSError."""
    return new_key(path)


def made_factor(typed: str, memory_kib: int | None = None) -> str | None:
    """What stands in the people's file for this PIN; None when no radio could say it."""
    if not FACTOR.fullmatch(typed):
        return None
    passwords = Passwords(memory_kib=memory_kib or MEMORY_KIB)
    try:
        return passwords.made(Secret(typed))
    finally:
        passwords.close()


def _secret_of(config: Config, file: str) -> Secret | None:
    """What stands in a file of the configuration; None where none is named."""
    if not file:
        return None
    try:
        text = resolve(config.path, file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        raise ConfigError([f"{config.path.name}: {file}: cannot be read, or is empty"])
    return Secret(text)


def _certificate_of(config: Config) -> Certificate | None:
    """Of the page. Raises ConfigError when it cannot be used."""
    http = config.settings.http
    if not http.cert_file:
        return None
    cert, key = resolve(config.path, http.cert_file), resolve(config.path, http.key_file)
    try:
        return Certificate(cert, key, least=http.min_tls)
    except OSError as error:
        findings: list[str] = []
        why = error.strerror or type(error).__name__
        settings.tell(config.path, [f"http.cert_file: cannot be used: {why}"], findings)
        raise ConfigError(findings) from error


def _provider_of(config: Config, clock: Clock) -> IdentityProvider | None:
    auth = config.settings.auth
    if auth.mode != "oidc":
        return None
    from adapters.oidc import Provider  # only where there is one: it brings JOSE along

    return Provider(
        issuer=auth.issuer,
        client_id=auth.client_id,
        secret=_secret_of(config, auth.client_secret_file),
        redirect_url=auth.redirect_url,
        role_claim=auth.role_claim,
        require_acr=auth.require_acr,
        wall_s=lambda: clock.wall_ms() / 1000,
    )


def _audit_of(config: Config) -> AuditSection:
    """With its key's file found."""
    section = config.settings.audit
    if not section.key_file:
        return section
    return msgspec.structs.replace(section, key_file=str(resolve(config.path, section.key_file)))


def _known_by(config: Config) -> dict[str, str]:
    """Of each broker, TAK server and listener, a fingerprint of the files by which we, or whoever
    comes, are known; blocks."""
    settings = config.settings
    sections: list[MqttSection | CotSection | OsmandSection] = [
        *settings.mqtt,
        *settings.owntracks,
        *settings.cot,
        *settings.osmand,
    ]
    return {each.name: client_tls.fingerprint(config.path, each) for each in sections}


def certificates_of(config: Config) -> dict[str, Path]:
    """Each certificate that we show, or know others by, under its name in the metric."""
    found: dict[str, Path] = {}
    for broker in (*config.settings.mqtt, *config.settings.owntracks):
        found |= mqtt_access.files(config.path, broker)
    for cot in config.settings.cot:
        named = {cot.name: cot.cert_file, f"{cot.name}-ca": cot.ca_file}
        found |= {name: resolve(config.path, file) for name, file in named.items() if file}
    doors = [("page", config.settings.http.cert_file)]
    doors += [(listener.name, listener.cert_file) for listener in config.settings.osmand]
    return found | {name: resolve(config.path, file) for name, file in doors if file}


def _lives(config: Config) -> dict[str, Life | None]:
    """Blocks. What reads certificates is loaded only where there are some."""
    from adapters.certificates import life

    lives: dict[str, Life | None] = {}
    for name, path in certificates_of(config).items():
        try:
            lives[name] = Life(*life(path.read_bytes()))
        except (OSError, ValueError):
            lives[name] = None
    return lives


Run = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


def _runner(core: Core, link: Link) -> Run:
    async def run(up: Callable[[], None]) -> None:
        await link.run(core.switchboard.handle, up)

    return run


def _meter_for(config: Config) -> PrometheusMeter:
    section = config.settings
    kinds = {line.name: "serial" for line in section.serial}
    kinds |= {each.name: "http" for each in section.osmand}
    kinds |= {broker.name: "mqtt" for broker in (*section.mqtt, *section.owntracks)}
    kinds |= {radio.name: "tetra" for radio in section.tetra}
    kinds |= {each.name: "gpsd" for each in section.gpsd}
    kinds |= {f"{broker.name}-feed": "relay" for broker in section.mqtt if broker.feed}
    kinds |= {cot.name: "relay" for cot in section.cot}
    return PrometheusMeter(
        links=kinds,
        areas=config.areas.areas,
        agencies=config.fleet.agencies,
        certs=tuple(certificates_of(config)),
        anchors=tuple(
            each.name
            for each in anchors.create(
                section.audit.anchors, config_path=config.path, instance=section.gateway.instance
            )
        ),
        version=__version__,
    )


def load(path: Path) -> Config:
    """settings.load, and whether the adapters that the file names exist. Raises ConfigError."""
    config = settings.load(path)
    found = []
    section = config.settings
    if section.pnc.adapter not in pnc.REGISTRY:
        found.append(f"pnc.adapter: one of {', '.join(sorted(pnc.REGISTRY))}")
    if section.register.adapter not in register.REGISTRY:
        found.append(f"register.adapter: one of {', '.join(sorted(register.REGISTRY))}")
    for line in section.serial:
        lines = sorted(name for name in codecs.REGISTRY if codecs.takes_lines(name))
        if line.codec not in lines:
            known = ", ".join(lines)
            found.append(f"serial {line.name}: codec: one of {known}")
    for radio in section.tetra:
        if radio.dialect not in links.DIALECTS:
            known = ", ".join(sorted(links.DIALECTS))
            found.append(f"tetra {radio.name}: dialect: one of {known}")
    findings: list[str] = []
    settings.tell(path, found, findings)
    misnamed = [
        f"terminals[{n}].names.{protocol}: no such protocol; {nearest(protocol, codecs.REGISTRY)}"
        for n, terminal in enumerate(config.fleet.terminals)
        for protocol in terminal.names
        if protocol not in codecs.REGISTRY
    ]
    settings.tell(resolve(path, section.gateway.fleet), misnamed, findings)
    if findings:
        raise ConfigError(findings)
    return config


def audit_verify(path: Path, heads: Sequence[Path], keys: Sequence[Path]) -> Iterator[str]:
    """`audit verify`: a line for each log. Raises ChainBroken, LedgerUnavailable."""
    config = load(path)
    files, anchored, unread = asyncio.run(_anchored(config))
    yield from ledger.verify_chain(
        config.settings.ledger,
        state_dir=config.state_dir,
        heads=(*heads, *files),
        own=True,
        anchored=anchored,
        keys=keys,
    )
    for name in unread:
        yield f"anchor {name} could not be asked"


async def _anchored(config: Config) -> tuple[list[Path], dict[str, bytes], list[str]]:
    """What the anchors know: files of all that they have, the newest head of others, and those that
    could not be asked."""
    files: list[Path] = []
    newest: dict[str, bytes] = {}
    unread: list[str] = []
    for section, anchor in zip(config.settings.audit.anchors, anchors_of(config), strict=True):
        if section.kind == "file":
            path = resolve(config.path, section.path)
            if path.exists():
                files.append(path)
            else:
                unread.append(anchor.name)
            continue
        try:
            async with asyncio.timeout(ANCHOR_S):
                head = await anchor.newest()
        except (AnchorFailed, TimeoutError):
            unread.append(anchor.name)
        else:
            if head is not None:
                newest[anchor.name] = head
    return files, newest, unread


def audit_export(
    path: Path,
    *,
    purpose: str,
    by: str,
    since_ms: int | None,
    until_ms: int | None,
    out: BinaryIO,
) -> str:
    """`audit export`: on record first, then the lines; returns the manifest.

    The one writer puts it on record: the daemon where it runs (asked over its own loopback API),
    else we, with the ledger opened for as long as that takes (docs/adr/0010).
    """
    config = load(path)
    asyncio.run(_record_export(config, purpose, by))
    return ledger.export_records(
        config.settings.ledger,
        state_dir=config.state_dir,
        purpose=purpose,
        by=by,
        since_ms=since_ms,
        until_ms=until_ms,
        out=out,
    )


def audit_show(path: Path, receipt: str, *, purpose: str, by: str) -> Iterator[tuple[str, bytes]]:
    """`audit show`: on record first, then what the receipt proves, in words and as JSON.

    Raises ChainBroken, LedgerUnavailable.
    """
    config = load(path)
    meant = read_receipt(receipt)
    asyncio.run(_record_export(config, purpose, by, meant))
    for proof in ledger.show_receipt(
        config.settings.ledger, state_dir=config.state_dir, receipt=meant
    ):
        yield proof.says, msgspec.json.format(msgspec.json.encode(proof)) + b"\n"


def audit_prove(path: Path, what: str, *, purpose: str, by: str) -> Iterator[bytes]:
    """`audit prove`: on record first, as `audit show`. Raises ChainBroken, LedgerUnavailable."""
    config = load(path)
    asyncio.run(_record_export(config, purpose, by))
    yield from ledger.prove_records(
        config.settings.ledger,
        state_dir=config.state_dir,
        log=config.settings.gateway.instance,
        what=what,
    )


def audit_consistency(path: Path, old: int, new: int) -> bytes:
    """`audit consistency`: of two heads, no record. Raises ChainBroken, LedgerUnavailable."""
    config = load(path)
    return ledger.prove_consistency(
        config.settings.ledger,
        state_dir=config.state_dir,
        log=config.settings.gateway.instance,
        old=old,
        new=new,
    )


def audit_key(path: Path, *, new: bool) -> Iterator[str]:
    """`audit key new|list`. Raises LedgerUnavailable."""
    state_dir = load(path).state_dir
    if new:
        yield f"{ledger.new_key(state_dir)}: takes over at the next start"
    else:
        yield from ledger.keys_of(state_dir)


def account_add(
    path: Path, name: str, roles: Sequence[str], password: str = ""
) -> tuple[str, Path]:
    """`account add`: one more operator at the end of the people file; their password (made, when
    none is given) and the file. Raises ConfigError, and then the file is as it was."""
    config = load(path)
    people = resolve(path, config.settings.gateway.people)
    if password and len(password) < PASSWORD_LEAST:
        raise ConfigError([f"password: at least {PASSWORD_LEAST} characters"])
    password = password or secrets.token_urlsafe(PASSWORD_BYTES)
    maker = Passwords()
    stored = maker.made(Secret(password))
    maker.close()
    before = people.read_bytes()
    try:
        with people.open("ab") as file:
            file.write(b"\n" + operator_entry(name, roles, stored).encode())
        load(path)
    except OSError as error:
        raise ConfigError([f"{people}: {error.strerror}"]) from error
    except ConfigError:
        people.write_bytes(before)
        raise
    return password, people


def operator_entry(name: str, roles: Sequence[str], stored: str) -> str:
    """As it stands in the people file. stored: of Passwords.made."""
    listed = ", ".join(f'"{role}"' for role in roles)
    said = msgspec.json.encode(name).decode()
    return f'[[operators]]\nid = {said}\nroles = [{listed}]\npassword = "{stored}"\n'


PASSWORD_LEAST, PASSWORD_BYTES = 12, 12


async def _record_export(config: Config, purpose: str, by: str, receipt: str = "") -> None:
    http = config.settings.http
    instance = config.settings.gateway.instance
    host = _reached_at(http.host)
    url = f"{'https' if http.cert_file else 'http'}://{host}:{http.port}"
    token, pinned = host_token.read(config.state_dir), _pinned(config)
    if await tell_export(
        url,
        instance=instance,
        purpose=purpose,
        by=by,
        token=token,
        pinned=pinned,
        receipt=receipt,
    ):
        return
    meter, clock = _meter_for(config), SystemClock()
    store = await ledger.open_ledger(
        config.settings.ledger,
        state_dir=config.state_dir,
        instance=instance,
        meter=meter,
        journal=StructJournal(sys.stderr, meter=meter),
        clock=clock,
        repair=False,
        audit=_audit_of(config),
    )
    try:
        await store.commit(
            [
                Record(
                    event="export",
                    at_ms=clock.wall_ms(),
                    operator=f"cli:{by}",
                    detail=export_detail(purpose, receipt),
                )
            ]
        )
    finally:
        await store.close()


def _reached_at(host: str) -> str:
    """Where this machine reaches what listens there; in brackets if need be."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"[{address}]" if ":" in address else address


def _pinned(config: Config) -> bytes | None:
    """The fingerprint of the page's certificate: whoever listens there must have it."""
    http = config.settings.http
    if not http.cert_file:
        return None
    try:
        pem = resolve(config.path, http.cert_file).read_text("ascii")
        first = pem[pem.index(_PEM_END[0]) : pem.index(_PEM_END[1]) + len(_PEM_END[1])]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()
    except (OSError, ValueError) as error:
        raise LedgerUnavailable("http.cert_file cannot be read") from error


_PEM_END = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----")


def calm_collector() -> None:
    """What stands now stands until the end: the garbage collector need not walk through it again.

    By its defaults a full collection came every few seconds under load and stopped the loop for
    100 ms (docs/performance.md); nearly all that a check leaves behind goes by reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _hiding(state_dir: Path) -> Callable[[str], str]:
    """How the ledger's process makes plain digests of questions into keyed ones. Blocks."""
    return partial(under_key, open_keyed(state_dir))


def run_daemon(path: Path) -> int:
    """`radio-gateway run`: SIGTERM and SIGINT drain, SIGHUP reloads. Returns the exit code."""
    config = load(path)
    os.umask(0o077)  # whatever is made from here on is for this user alone
    meter = _meter_for(config)
    journal = StructJournal(sys.stdout, meter=meter)
    # What libraries log holds topics and addresses: it comes out as name and level alone.
    journal.take_in_libraries()

    # Before the loop, and before anything has a thread.
    apart = config.settings.ledger.own_process
    process = ledger_process.start(SystemClock(), _hiding) if apart else None

    async def main() -> int:
        gateway = Gateway(config, meter=meter, journal=journal, ledger_process=process)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, gateway.stop)
        reloads: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            task = loop.create_task(gateway.reload(), name="reload")
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        return await gateway.run(ready=calm_collector)

    try:
        return asyncio.run(main())
    finally:
        if process is not None:
            process.end()
        journal.close()
