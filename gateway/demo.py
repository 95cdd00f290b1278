"""The second composition root: the whole house in one process; radios, broker and PNC simulated.

Prints the page's address, then a feed of what happens, one line each, without subject data; ends
by a signal or by itself, and leaves nothing behind: no process, socket, PTY or file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

import msgspec

from adapters.passwords import Passwords
from gateway import settings
from gateway.app import Gateway, operator_entry
from gateway.bus import Batch, Subscription
from gateway.errors import ConfigError
from gateway.messages import Secret, Viewer
from simulators import scenario as scenarios
from simulators.clock import RealClock
from simulators.feed import LEGEND, Feed, Line
from simulators.gpsd_server import GpsdVehicle
from simulators.pnc_server import PncServer
from simulators.radio import Radio
from simulators.register_server import RegisterServer
from simulators.run import build_bases, build_radios, line_path, plug_in
from simulators.scenario import Scenario, ScenarioError
from simulators.signals import stop_signals

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64

READY_WITHIN_S = 15.0
STOP_WITHIN_S = 6.0
"""The gateway's own drain takes at most 5 s."""
FEED_TURN_S = 1.0
ACCOUNTS = ("operator", "supervisor")
"""Who may log in to the demo's page; each has the role that it is called."""
GATEWAY_USERS = ("radio-gateway-demo", "radio-gateway-demo-status", "radio-gateway-demo-phones")
PHONE_KEYS = "phone-keys"
MEND_AMQTT = "the demo's broker is missing; mend it with: pip install 'amqtt>=0.11.3,<0.13'"

RIGHTS = frozenset({"class", "callsign", "position", "identity", "emergency"})
"""What the feed on this terminal may see: it runs on synthetic records only."""


class _CountedJournal:
    """The demo's journal: the feed is what one reads; warnings are counted for the summary."""

    def __init__(self) -> None:
        self.warnings: Counter[str] = Counter()

    def note(self, event: str, **fields: str | int | float | bool | None) -> None:
        pass

    def warn(self, event: str, **fields: str | int | float | bool | None) -> None:
        self.warnings[event] += 1


class _Libraries(logging.Handler):
    """What libraries log is counted, too: their words would stand in the middle of the feed."""

    def __init__(self, journal: _CountedJournal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.warn("library")


@contextlib.contextmanager
def _taken_in(journal: _CountedJournal) -> Iterator[None]:
    root, handler = logging.getLogger(), _Libraries(journal)
    before = root.handlers[:]
    root.handlers[:] = [handler]
    try:
        yield
    finally:
        root.handlers[:] = before


# --------------------------------------------------------------------------- the configuration


def resolved_config(
    base: Mapping[str, Any],
    scenario: Scenario,
    *,
    config_folder: Path,
    folder: Path,
    broker_port: int,
    pnc_url: str,
    register_url: str,
    http_port: int,
    gpsd_ports: Mapping[str, int],
) -> dict[str, Any]:
    """config/demo.toml with what is only known at run time. Passwords lie in folder/secrets."""
    tree: dict[str, Any] = dict(base)
    gateway = dict(tree["gateway"])
    gateway["state_dir"] = str(folder / "state")
    for name in ("people", "fleet"):
        gateway[name] = str(folder / f"{name}.toml")
    for name in ("areas", "policy", "warnings"):
        gateway[name] = str(config_folder / gateway[name])
    tree["gateway"] = gateway
    alarms = dict(tree["alarms"])
    alarms["file"] = str(config_folder / alarms["file"])
    tree["alarms"] = alarms
    tree["http"] = {**tree["http"], "port": http_port}
    tree["pnc"] = {**tree["pnc"], "url": pnc_url}
    tree["register"] = {**tree["register"], "url": register_url}
    tree["tetra"] = [
        {
            **base["tetra"][0],
            "name": one.name.lower(),
            "port": str(line_path(folder / "lines", one)),
            "dialect": one.make,
        }
        for one in scenario.bases
    ]
    tree["serial"] = [
        {
            **base["serial"][0],
            "name": f"serial-{actor.callsign.lower()}",
            "port": str(line_path(folder / "lines", actor)),
            "terminal": actor.issi,
        }
        for actor in scenario.actors
        if actor.bearer == "serial"
    ]
    tree["gpsd"] = [
        {
            **base["gpsd"][0],
            "name": f"gpsd-{actor.callsign.lower()}",
            "port": gpsd_ports[actor.callsign],
            "terminal": actor.issi,
        }
        for actor in scenario.actors
        if actor.bearer == "gpsd"
    ]
    main, status, phones = GATEWAY_USERS
    tree["mqtt"] = [
        {
            **base["mqtt"][0],
            "port": broker_port,
            "username": main,
            "password_file": str(folder / "secrets" / main),
            "status_username": status,
            "status_password_file": str(folder / "secrets" / status),
        }
    ]
    tree["owntracks"] = [
        {
            **base["owntracks"][0],
            "port": broker_port,
            "username": phones,
            "password_file": str(folder / "secrets" / phones),
            "keys_file": str(folder / "secrets" / PHONE_KEYS),
        }
    ]
    return {key: value for key, value in tree.items() if value != []}


def to_toml(tree: Mapping[str, Any]) -> str:
    """Loose values, tables of values and lists of tables, as our configuration has them, as TOML
    text."""
    tables: list[str] = []
    loose: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            tables += [f"[{key}]", *_pairs(value), ""]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for row in value:
                tables += [f"[[{key}]]", *_pairs(row), ""]
        else:
            loose[key] = value
    return "\n".join([*_pairs(loose), *tables])


def _pairs(table: Mapping[str, Any]) -> list[str]:
    # A JSON string, number or boolean is the same in TOML (TOML 1.0, basic strings); so is an
    # array of them; an inline table is not, and is spelt here.
    pairs = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = ", ".join(_pairs(value))
            pairs.append(f"{key} = {{ {inner} }}")
        else:
            pairs.append(f"{key} = {msgspec.json.encode(value).decode()}")
    return pairs


def free_port(wanted: int) -> int:
    """`wanted` when nobody has it on loopback, else one that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As servers do: a port whose last connection only just closed counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")


def _write_secrets(folder: Path, passwords: Mapping[str, str]) -> None:
    secrets_folder = folder / "secrets"
    secrets_folder.mkdir(mode=0o700)
    for name, password in passwords.items():
        (secrets_folder / name).write_text(password, "utf-8")


def fleet_of(sample: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
    """The sample fleet, in which whoever is on TETRA in the play has the budget of such a radio and
    is behind its base, and with the play's cars behind a gpsd."""
    base_of = {actor.issi: actor.base.lower() for actor in scenario.actors if actor.base}
    rows = [
        {**row, "device_class": "tetra", "link": base_of[row["issi"]]}
        if row["issi"] in base_of
        else row
        for row in sample["terminals"]
    ]
    rows += [
        {
            "issi": actor.issi,
            "callsign": actor.callsign,
            "agency": "police",
            "area": actor.area,
            "device_class": "vehicle",
        }
        for actor in scenario.actors
        if actor.bearer == "gpsd"
    ]
    return {**sample, "terminals": rows}


def _write_phone_keys(folder: Path, passphrases: Mapping[str, str]) -> None:
    """By which phones encrypt: `user-device passphrase`, a line each."""
    lines = [f"{phone.replace('/', '-')} {phrase}\n" for phone, phrase in passphrases.items()]
    (folder / "secrets" / PHONE_KEYS).write_text("".join(lines), "utf-8")


def _write_people(folder: Path, sample: Path) -> dict[str, str]:
    """The sample's people and, for this run, two who may log in: an emergency needs two to close.
    Their passwords."""
    logins = {name: secrets.token_urlsafe(12) for name in ACCOUNTS}
    passwords = Passwords()
    text = sample.read_text("utf-8")
    for name, password in logins.items():
        text += "\n" + operator_entry(name, (name,), passwords.made(Secret(password)))
    passwords.close()
    (folder / "people.toml").write_text(text, "utf-8")
    return logins


# --------------------------------------------------------------------------- the play


async def demo(
    *,
    http_port: int | None,
    seed: int,
    scenario: str,
    duration_s: float | None,
    out: TextIO,
) -> int:
    """Run the whole system until duration_s, a signal, or the gateway's end; returns an exit code.

    http_port None: 8080 when it is free, else any. Returns 0, 1 when something could not start or
    the gateway failed, 64 when there is no such scenario.
    """
    try:
        from simulators.broker import EmbeddedBroker
    except ModuleNotFoundError:
        out.write(f"{MEND_AMQTT}\n")
        return EXIT_FAILED
    try:
        play = scenarios.load(scenario)
    except ScenarioError as error:
        out.write(f"{error}\n")
        return EXIT_USAGE
    folder = Path(tempfile.mkdtemp(prefix="radio-gateway-demo-"))
    try:
        with stop_signals() as stop:
            async with contextlib.AsyncExitStack() as kept:
                return await _demo(
                    play,
                    EmbeddedBroker,
                    folder=folder,
                    http_port=http_port,
                    seed=seed,
                    duration_s=duration_s,
                    out=out,
                    stop=stop,
                    kept=kept,
                )
    except ConfigError as error:
        out.write(f"{error}\n")
        return EXIT_FAILED
    except OSError as error:
        out.write(f"the demo could not start: {error.strerror or error}\n")
        return EXIT_FAILED
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _demo(
    play: Scenario,
    make_broker: Any,
    *,
    folder: Path,
    http_port: int | None,
    seed: int,
    duration_s: float | None,
    out: TextIO,
    stop: asyncio.Event,
    kept: contextlib.AsyncExitStack,
) -> int:
    """Start from the outside in (PNC, broker, lines, gateway), stop in the reverse order."""
    source = settings.sample_folder()
    base = tomllib.loads((source / "demo.toml").read_text("utf-8"))
    fleet = tomllib.loads((source / base["gateway"]["fleet"]).read_text("utf-8"))
    passwords = {str(row["issi"]): secrets.token_urlsafe(12) for row in fleet["terminals"]}
    passwords |= {name: secrets.token_urlsafe(24) for name in GATEWAY_USERS}
    phones = [actor for actor in play.actors if actor.phone]
    passwords |= {actor.phone.partition("/")[0]: passwords[actor.issi] for actor in phones}
    passphrases = {actor.issi: secrets.token_urlsafe(12) for actor in phones}
    _write_secrets(folder, passwords)
    (folder / "fleet.toml").write_text(to_toml(fleet_of(fleet, play)), "utf-8")
    _write_phone_keys(folder, {actor.phone: passphrases[actor.issi] for actor in phones})

    pnc = PncServer(source / "pnc", "127.0.0.1", 0)
    await pnc.start()
    kept.push_async_callback(pnc.stop)
    register = RegisterServer(source / "pnc", "127.0.0.1", 0)
    await register.start()
    kept.push_async_callback(register.stop)
    broker = make_broker(passwords, staff=frozenset(GATEWAY_USERS))
    await broker.start()
    kept.push_async_callback(broker.stop)
    clock = RealClock()
    bases = build_bases(play, clock=clock, seed=seed, serial_folder=folder / "lines")
    radios = build_radios(
        play,
        bases,
        clock=clock,
        seed=seed,
        serial_folder=folder / "lines",
        broker_host="127.0.0.1",
        broker_port=broker.port,
        broker_version="3.1.1",
        passwords=passwords,
        retain_presence=False,
        passphrases=passphrases,
    )
    plug_in(radios, bases, folder / "lines", kept)
    logins = await asyncio.to_thread(_write_people, folder, source / base["gateway"]["people"])
    tree = resolved_config(
        base,
        play,
        config_folder=source,
        folder=folder,
        broker_port=broker.port,
        pnc_url=pnc.url,
        register_url=register.url,
        http_port=free_port(8080) if http_port is None else http_port,
        gpsd_ports={
            radio.callsign: radio.port
            for radio in radios.values()
            if isinstance(radio, GpsdVehicle)
        },
    )
    path = folder / "demo.toml"
    path.write_text(to_toml(tree), "utf-8")
    config = settings.load(path)

    journal = _CountedJournal()
    kept.enter_context(_taken_in(journal))
    gateway = Gateway(config, journal=journal)
    feed = Feed(
        out,
        callsigns={terminal.issi: terminal.callsign for terminal in config.fleet.terminals},
        zone=ZoneInfo(config.settings.gateway.timezone),
        colour=out.isatty() and "NO_COLOR" not in os.environ,
    )
    async with _running(gateway, feed) as daemon:
        _say_hello(out, gateway, play, radios, broker.port, folder, logins)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(radio.run(), name=f"radio {radio.callsign}")
                    for radio in radios.values()
                ]
                tasks.append(
                    group.create_task(
                        scenarios.play(
                            play,
                            radios,
                            clock=clock,
                            seed=seed,
                            caption=feed.caption,
                            screen=feed.screen,
                            pnc=pnc,
                            bases=bases,
                        ),
                        name="scenario",
                    )
                )
                await _end_of(stop, daemon, duration_s)
                for task in tasks:
                    task.cancel()
        finally:
            gateway.stop()
    feed.end()
    code = daemon.result() if not daemon.cancelled() else EXIT_FAILED
    out.write(f"\n{feed.count.summary()}\n")
    if journal.warnings:
        words = "  ".join(f"{name} {n}" for name, n in sorted(journal.warnings.items()))
        out.write(f"log      {words}\n")
    out.flush()
    return code


@contextlib.asynccontextmanager
async def _running(gateway: Gateway, feed: Feed) -> AsyncIterator[asyncio.Task[int]]:
    """The gateway and the feed that watches it, from ready to drained; each stop has a deadline."""
    ready = asyncio.Event()
    subscription = gateway.bus.subscribe(Viewer(id="demo", kind="demo", rights=RIGHTS))
    daemon = asyncio.create_task(gateway.run(ready.set), name="gateway")
    watcher = asyncio.create_task(_watch(subscription, feed), name="feed")
    waits = asyncio.create_task(ready.wait(), name="ready")
    try:
        await asyncio.wait(
            {daemon, waits}, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
        )
        if daemon.done():
            daemon.result()
            raise OSError("the gateway ended before it was ready")
        if not ready.is_set():
            raise OSError(f"the gateway was not ready within {READY_WITHIN_S:g} s")
        yield daemon
    finally:
        waits.cancel()
        gateway.stop()
        await asyncio.wait({daemon}, timeout=STOP_WITHIN_S)
        daemon.cancel()
        watcher.cancel()
        await asyncio.gather(daemon, watcher, waits, return_exceptions=True)
        # What happened while it drained belongs to the feed, too.
        while _take(await subscription.next(0), feed):
            pass
        subscription.close()


async def _watch(subscription: Subscription, feed: Feed) -> None:
    loop = asyncio.get_running_loop()
    while True:
        _take(await subscription.next(FEED_TURN_S), feed)
        feed.counter(loop.time())


def _take(batch: Batch, feed: Feed) -> bool:
    """Show a batch; False when there was nothing in it."""
    for _, event in batch.events:
        feed.event(event)
    feed.count.fixes += len(batch.fixes) + batch.conflated
    if batch.reset is not None:
        feed.line(Line(f"-- feed lost events ({batch.reset}) and goes on", "doubt"))
    return bool(batch.events or batch.fixes)


async def _end_of(stop: asyncio.Event, daemon: asyncio.Task[int], duration_s: float | None) -> None:
    """Until a signal, the time, or the gateway's own end."""
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait(
            {stopped, daemon}, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)


def _say_hello(
    out: TextIO,
    gateway: Gateway,
    play: Scenario,
    radios: Mapping[str, Radio],
    broker_port: int,
    folder: Path,
    logins: Mapping[str, str],
) -> None:
    bearers = Counter(radio.bearer for radio in radios.values())
    out.write(f"page     {gateway.http_url}  (on this machine)\n")
    for name, password in logins.items():
        out.write(f"log in   {name}  {password}\n")
    out.write(
        f"radios   {bearers['tetra']} on TETRA handsets behind {len(play.bases)} radios on PTYs, "
        f"{bearers['mqtt']} over MQTT, {bearers['owntracks']} phone with OwnTracks, "
        f"{bearers['gpsd']} car behind a gpsd; synthetic data only\n"
    )
    taken = {actor.issi for actor in play.actors}
    left = [t.issi for t in gateway.config.fleet.terminals if t.issi not in taken]
    if left:
        out.write(
            f"be one   radio-gateway terminal --issi {left[0]} --mqtt-version 3.1.1 \\\n"
            f"         --port {broker_port} --password-file {folder / 'secrets' / left[0]}\n"
        )
    out.write(f"feed     {LEGEND}\n")
    out.write("end      Ctrl-C\n\n")
    out.flush()
