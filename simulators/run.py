"""Simulators against a gateway that is already up: a whole scenario, or the PNC server alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TextIO

from adapters.pnc.mock import Latency
from simulators import scenario as scenarios
from simulators.clock import Clock, RealClock
from simulators.gpsd_server import GpsdVehicle
from simulators.lines import PtyLine
from simulators.mqtt_terminal import MqttTerminal
from simulators.patrol import Patrol
from simulators.phone import Phone
from simulators.pnc_server import PncServer
from simulators.pty_radio import PtyRadio
from simulators.radio import Radio, tally
from simulators.register_server import RegisterServer
from simulators.scenario import Actor, Base, Scenario, ScenarioError
from simulators.signals import stop_signals
from simulators.tetra_cell import AIRS
from simulators.tetra_handset import TetraHandset
from simulators.tetra_pei import MAKES
from simulators.tetra_radio import TetraRadio

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64
REPORT_EVERY_S = 10.0
PHONE_EVERY_S = 3.0
"""Between two positions of a phone, at least: it minds its battery."""


def build_bases(
    scenario: Scenario, *, clock: Clock, seed: int, serial_folder: Path
) -> dict[str, TetraRadio]:
    """The gateway's TETRA radios by name, on PTYs linked as `folder/name`."""
    return {
        base.name: TetraRadio(
            name=base.name,
            line=PtyLine(line_path(serial_folder, base)),
            clock=clock,
            habits=MAKES[base.make],
            air=AIRS[base.air],
            ssi=base.ssi,
            seed=seed,
        )
        for base in scenario.bases
    }


def build_radios(
    scenario: Scenario,
    bases: Mapping[str, TetraRadio],
    *,
    clock: Clock,
    seed: int,
    serial_folder: Path,
    broker_host: str,
    broker_port: int,
    broker_version: str,
    passwords: Mapping[str, str],
    prefix: str = "radio",
    retain_presence: bool = True,
    passphrases: Mapping[str, str] | None = None,
) -> dict[str, Radio]:
    """The actors as radios, by call-sign; serial ones on PTYs linked as `folder/callsign`, TETRA
    ones in the cells of `bases`.

    passwords: ISSI -> password; an ISSI that is not there connects without one. passphrases: ISSI
    of a phone -> what it encrypts with; one that is not there speaks in plain words.
    """
    radios: dict[str, Radio] = {}
    for actor in scenario.actors:
        patrol = Patrol(f"{seed}/{actor.issi}", actor.area, actor.pace)
        if actor.bearer == "serial":
            radios[actor.callsign] = PtyRadio(
                issi=actor.issi,
                callsign=actor.callsign,
                line=PtyLine(line_path(serial_folder, actor)),
                clock=clock,
                patrol=patrol,
                fix_every_s=scenario.fix_every_s,
                think_s=scenario.think_s,
            )
        elif actor.bearer == "tetra":
            radios[actor.callsign] = TetraHandset(
                issi=actor.issi,
                callsign=actor.callsign,
                base=bases[actor.base],
                clock=clock,
                patrol=patrol,
                fix_every_s=scenario.fix_every_s,
                think_s=scenario.think_s,
            )
        elif actor.bearer == "gpsd":
            radios[actor.callsign] = GpsdVehicle(
                issi=actor.issi,
                callsign=actor.callsign,
                clock=clock,
                patrol=patrol,
                fix_every_s=scenario.fix_every_s,
            )
        elif actor.bearer == "owntracks":
            radios[actor.callsign] = Phone(
                issi=actor.issi,
                callsign=actor.callsign,
                phone=actor.phone,
                host=broker_host,
                port=broker_port,
                password=passwords.get(actor.issi, ""),
                passphrase=(passphrases or {}).get(actor.issi, ""),
                clock=clock,
                patrol=patrol,
                fix_every_s=max(scenario.fix_every_s, PHONE_EVERY_S),
                retain=retain_presence,
                seed=seed,
            )
        else:
            radios[actor.callsign] = MqttTerminal(
                issi=actor.issi,
                callsign=actor.callsign,
                host=broker_host,
                port=broker_port,
                version=broker_version,
                password=passwords.get(actor.issi, ""),
                prefix=prefix,
                clock=clock,
                patrol=patrol,
                fix_every_s=scenario.fix_every_s,
                think_s=scenario.think_s,
                seed=seed,
                retain_presence=retain_presence,
            )
    return radios


def line_path(folder: Path, at: Actor | Base) -> Path:
    """Where a serial actor's line stands, or a base's: `port` of its section in the gateway's
    file."""
    return folder / (at.name if isinstance(at, Base) else at.callsign)


def plug_in(
    radios: Mapping[str, Radio],
    bases: Mapping[str, TetraRadio],
    folder: Path,
    kept: contextlib.AsyncExitStack,
) -> list[str]:
    """Open the line of every serial radio and every base, and the port of every gpsd, and have
    `kept` close it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    said = []
    for base in bases.values():
        base.plug()
        kept.callback(base.close)
        said.append(f"{base.name} on {base.line.path}")
    for radio in radios.values():
        if isinstance(radio, PtyRadio):
            radio.plug()
            kept.callback(radio.unplug)
            said.append(f"{radio.callsign} on {radio.line.path}")
        elif isinstance(radio, GpsdVehicle):
            radio.plug()
            kept.callback(radio.unplug)
            said.append(f"{radio.callsign} behind a gpsd on 127.0.0.1:{radio.port}")
    return said


async def simulate(
    name: str,
    *,
    broker_host: str = "127.0.0.1",
    broker_port: int = 1883,
    broker_version: str = "5",
    passwords: Mapping[str, str] | None = None,
    prefix: str = "radio",
    serial_folder: Path = Path("var/lines"),
    pnc_host: str = "127.0.0.1",
    pnc_port: int | None = None,
    pnc_records: Path = Path("config/pnc"),
    seed: int = 1,
    duration_s: float | None = None,
    out: TextIO = sys.stdout,
    err: TextIO = sys.stderr,
    clock: Clock | None = None,
) -> int:
    """Play a scenario against a gateway that runs elsewhere, until duration_s or a signal.

    pnc_port: also run the PNC server there; None: the gateway has its own. Returns 0, 1 when a
    line or the PNC's port cannot be had, 64 when the scenario is not good.
    """
    clock = clock or RealClock()
    try:
        scenario = scenarios.load(name)
    except ScenarioError as error:
        err.write(f"{error}\n")
        return EXIT_USAGE
    bases = build_bases(scenario, clock=clock, seed=seed, serial_folder=serial_folder)
    radios = build_radios(
        scenario,
        bases,
        clock=clock,
        seed=seed,
        serial_folder=serial_folder,
        broker_host=broker_host,
        broker_port=broker_port,
        broker_version=broker_version,
        passwords=passwords or {},
        prefix=prefix,
    )
    async with contextlib.AsyncExitStack() as kept:
        server: PncServer | None = None
        try:
            if pnc_port is not None:
                server = PncServer(pnc_records, pnc_host, pnc_port)
                await server.start()
                kept.push_async_callback(server.stop)
                out.write(f"PNC on {server.url}\n")
            for line in plug_in(radios, bases, serial_folder, kept):
                out.write(f"{line}\n")
        except OSError as error:
            err.write(f"cannot be opened: {error.filename or ''} {error.strerror or error}\n")
            return EXIT_FAILED
        out.write(f"{scenario.title}\n")
        out.flush()
        with stop_signals() as stop:
            await _until(
                stop,
                duration_s,
                _life(scenario, radios, bases, clock=clock, seed=seed, out=out, pnc=server),
            )
    _summary(list(radios.values()), out)
    return EXIT_OK


async def pnc(
    *,
    host: str = "127.0.0.1",
    port: int = 8089,
    records: Path = Path("config/pnc"),
    log: Path | None = None,
    register_port: int | None = None,
    register_log: Path | None = None,
    latency: Latency | None = None,
    duration_s: float | None = None,
    out: TextIO = sys.stdout,
    err: TextIO = sys.stderr,
) -> int:
    """The PNC server alone, and the vehicle register's beside it when register_port says where:
    prints their URLs and serves until duration_s or a signal."""
    servers: list[tuple[str, int, PncServer | RegisterServer]] = [
        ("PNC", port, PncServer(records, host, port, log=log, latency=latency))
    ]
    if register_port is not None:
        register = RegisterServer(records, host, register_port, log=register_log, latency=latency)
        servers.append(("register", register_port, register))
    async with contextlib.AsyncExitStack() as kept:
        for name, wanted, server in servers:
            try:
                await server.start()
            except OSError as error:
                err.write(f"{error.filename or f'{host}:{wanted}'}: {error.strerror or error}\n")
                return EXIT_FAILED
            kept.push_async_callback(server.stop)
            out.write(f"{name} on {server.url}\n")
        out.flush()
        with stop_signals() as stop:
            await _until(stop, duration_s, asyncio.Event().wait())
    return EXIT_OK


async def _life(
    scenario: Scenario,
    radios: Mapping[str, Radio],
    bases: Mapping[str, TetraRadio],
    *,
    clock: Clock,
    seed: int,
    out: TextIO,
    pnc: PncServer | None,
) -> None:
    def caption(text: str) -> None:
        out.write(f"== {text}\n")
        out.flush()

    async with asyncio.TaskGroup() as group:
        for radio in radios.values():
            group.create_task(radio.run(), name=f"radio {radio.callsign}")
        group.create_task(
            scenarios.play(
                scenario, radios, clock=clock, seed=seed, caption=caption, pnc=pnc, bases=bases
            )
        )
        while True:
            await clock.sleep(REPORT_EVERY_S)
            _summary(list(radios.values()), out)


def _summary(radios: list[Radio], out: TextIO) -> None:
    total = tally(radios)
    out.write(
        f"asked {total.asked}  receipts {total.receipts}  answered {total.answered}  "
        f"refused {total.refused}  no answer {total.no_answer}  waiting {total.waiting}  "
        f"voice {total.voice}  fixes {total.fixes}  lost {total.lost}\n"
    )
    out.flush()


async def _until(
    stop: asyncio.Event, duration_s: float | None, work: Coroutine[Any, Any, object]
) -> None:
    """Run `work` until it ends, a signal comes, or the time is over."""
    duties: list[asyncio.Task[Any]] = [
        asyncio.create_task(work, name="simulators"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    try:
        done, _ = await asyncio.wait(
            duties, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED
        )
        for duty in done:
            duty.result()
    finally:
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)


# --------------------------------------------------------------------------- command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `radio-gateway simulate`."""
    known = ", ".join(scenarios.names())
    parser.add_argument(
        "scenario", metavar="SCENARIO", help=f"one of {known}; a .toml file; or pnc, the PNC alone"
    )
    parser.add_argument("--broker", default="127.0.0.1:1883", metavar="HOST:PORT")
    parser.add_argument("--mqtt-version", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--prefix", default="radio")
    parser.add_argument(
        "--passwords", type=Path, default=None, metavar="FILE", help="lines `issi:password`"
    )
    parser.add_argument(
        "--serial-folder",
        type=Path,
        default=Path("var/lines"),
        metavar="DIR",
        help="links to the PTYs (var/lines)",
    )
    parser.add_argument("--pnc-host", default="127.0.0.1")
    parser.add_argument(
        "--pnc-port", "--port", type=int, default=None, metavar="N", help="run the PNC server too"
    )
    parser.add_argument("--records", type=Path, default=Path("config/pnc"), metavar="DIR")
    parser.add_argument(
        "--pnc-log",
        type=Path,
        default=None,
        metavar="FILE",
        help="pnc alone: every query and reply as a JSON line",
    )
    parser.add_argument(
        "--register-port",
        type=int,
        default=None,
        metavar="N",
        help="pnc alone: the vehicle register there, too",
    )
    parser.add_argument(
        "--register-log", type=Path, default=None, metavar="FILE", help="as --pnc-log, its own"
    )
    parser.add_argument(
        "--latency", action="store_true", help="pnc alone: take as long as a host does"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=float, default=None, metavar="S")


async def from_arguments(arguments: argparse.Namespace) -> int:
    """Run `simulate` or `pnc` as the command line says."""
    if arguments.scenario == "pnc":
        return await pnc(
            host=arguments.pnc_host,
            port=8089 if arguments.pnc_port is None else arguments.pnc_port,
            records=arguments.records,
            log=arguments.pnc_log,
            register_port=arguments.register_port,
            register_log=arguments.register_log,
            latency=Latency(arguments.seed) if arguments.latency else None,
            duration_s=arguments.duration,
        )
    host, _, port = arguments.broker.rpartition(":")
    try:
        passwords = read_passwords(arguments.passwords)
        broker_port = int(port)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"--broker HOST:PORT, --passwords FILE of `issi:password`: {error}\n")
        return EXIT_USAGE
    return await simulate(
        arguments.scenario,
        broker_host=host or "127.0.0.1",
        broker_port=broker_port,
        broker_version=arguments.mqtt_version,
        passwords=passwords,
        prefix=arguments.prefix,
        serial_folder=arguments.serial_folder,
        pnc_host=arguments.pnc_host,
        pnc_port=arguments.pnc_port,
        pnc_records=arguments.records,
        seed=arguments.seed,
        duration_s=arguments.duration,
    )


def read_passwords(path: Path | None) -> dict[str, str]:
    """`issi:password` a line; `#` begins a comment line. Raises ValueError naming the line."""
    if path is None:
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        issi, colon, password = line.strip().partition(":")
        if not colon or not issi.isdecimal():
            raise ValueError(f"{path.name}:{number}: not `issi:password`")
        found[issi] = password
    return found
