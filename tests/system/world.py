"""A small force: the real daemon between a real broker, real PTYs and a PNC over HTTP.

Whatever a test does with it ends in `verdict()`: the join of the four records.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulators.pnc_server import PncServer
from simulators.register_server import RegisterServer
from tests.chain import heads_said
from tests.system.daemon import ROOT, Daemon
from tests.system.ledgers import Console, Evidence, Leaf, audit, contents, judge
from tests.system.officers import LineOfficer, MqttOfficer, Officer

SERIAL = {"serial-e": "5001001", "serial-s": "5001010"}
"""Constables E-101 and S-301 of config/fleet.toml."""
MQTT = ("5001002", "5001003", "5001006")
"""PS E-102, PC E-103, PC N-202."""
COUNCIL = "5001008"
"""N-204, a council officer: L1 for persons, L2 for vehicles."""


class World:
    """Built by `open`; every task in it is owned and ended by `close`."""

    def __init__(self, folder: Path, broker: int) -> None:
        self.folder = folder
        self.broker = broker
        self.pnc = PncServer(ROOT / "config" / "pnc", "127.0.0.1", 0)
        self.lines: dict[str, LineOfficer] = {}
        self.radios: dict[str, MqttOfficer] = {}
        self.register: RegisterServer | None = None
        """The vehicle register, where a test has one."""
        self.console: Console | None = None
        self.daemon: Daemon | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(
        self,
        *,
        checks: Mapping[str, Any] | None = None,
        ack: bool = True,
        mqtt: tuple[str, ...] = (*MQTT, COUNCIL),
        broker_settings: Mapping[str, Any] | None = None,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        await self.pnc.start()
        lines = {}
        for name, issi in SERIAL.items():
            officer = LineOfficer(issi, self.folder / name, ack=ack)
            officer.plug()
            self.lines[issi] = officer
            lines[name] = (str(officer.link), issi)
        self.daemon = Daemon(
            self.folder,
            lines=lines,
            broker=self.broker,
            pnc_url=self.pnc.url,
            checks={"deadline_s": 4.0, "resend_s": 1.0, **(checks or {})},
            broker_settings=broker_settings,
            sections=sections,
            environ=environ,
            wrapper=wrapper,
        )
        await self.daemon.start()
        for issi in mqtt:
            radio = MqttOfficer(issi, self.broker, ack=ack)
            self.radios[issi] = radio
            self._tasks.append(asyncio.create_task(radio.run(), name=f"officer {len(self.radios)}"))
        self.console = Console(self.daemon.url)
        self._tasks.append(asyncio.create_task(self.console.run(), name="console"))
        async with asyncio.timeout(10):
            await self.console.connected.wait()
            for radio in self.radios.values():
                await radio.connected.wait()
            # Ready with one bearer: what is published before we subscribed is nobody's.
            while not await self._all_up():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)

    async def _all_up(self) -> bool:
        assert self.daemon is not None
        # One that has not come up yet may be in no snapshot.
        links = {each["id"]: each["state"] for each in (await self.daemon.snapshot())["links"]}
        return all(links.get(name) in {"up", "silent"} for name in (*SERIAL, "mqtt"))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for officer in self.lines.values():
            officer.unplug()
        if self.daemon is not None:
            await self.daemon.close()
        with contextlib.suppress(OSError):
            await self.pnc.stop()

    @property
    def officers(self) -> list[Officer]:
        return [*self.lines.values(), *self.radios.values()]

    def verdict(self) -> list[str]:
        """Every invariant that the join finds violated."""
        assert self.daemon is not None
        return judge(self.evidence(self.daemon.state))

    def evidence(self, state: Path, leaves: list[Leaf] | None = None) -> Evidence:
        """The four records as they are now. state: the daemon's folder. leaves: what was read of
        it by now; then nothing but the audit is looked at."""
        assert self.daemon is not None
        # T, Q and C belong to this loop and stand still while A is read: A is the newest of them.
        return Evidence(
            self.officers,
            self.queries(),
            audit(state) if leaves is None else leaves,
            self.console,
            replies=[
                {
                    "check": each.check,
                    "attempt": each.attempt,
                    "kind": each.kind,
                    "warnings": each.warnings,
                }
                for each in self.pnc.replies
            ],
            contents=contents(state) if leaves is None else None,
            heads=heads_said(state / "heads.jsonl", "gwt"),
            callsigns=self.callsigns(),
            seen_at_s=time.monotonic(),
            registered=[
                {"check": each.check, "attempt": each.attempt, "at_ms": each.at_ms}
                for each in (self.register.queries if self.register is not None else ())
            ],
        )

    def callsigns(self) -> dict[str, str]:
        """ISSI -> callsign, as the fleet's file has it."""
        assert self.daemon is not None
        fleet = tomllib.loads((self.daemon.folder / "fleet.toml").read_text("utf-8"))
        return {each["issi"]: each["callsign"] for each in fleet["terminals"]}

    def queries(self) -> list[dict[str, Any]]:
        """Q: every query that reached the PNC server, as it read it from the wire."""
        return [
            {
                "check": each.check,
                "attempt": each.attempt,
                "key_text": each.key_text,
                "at_ms": each.at_ms,
            }
            for each in self.pnc.queries
        ]
