"""One cell: the real daemon, simulated TETRA radios at its ports, officers behind them, a PNC.

Whatever a test does with it ends in `verdict()`: the join of the four records.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from simulators.clock import RealClock
from simulators.lines import PtyLine
from simulators.pnc_server import PncServer
from simulators.tetra_cell import STILL, Air
from simulators.tetra_mobile import Mobile
from simulators.tetra_pei import PLAIN, Habits
from simulators.tetra_radio import TetraRadio
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import Console, Evidence, audit, contents, judge
from tests.system.tetra_officer import TetraOfficer

ISSIS = ("5001001", "5001003", "5001005", "5001011")
"""E-101, E-103, N-201, S-302 of config/fleet.toml, all with the budget of a TETRA radio here."""
WITHIN_S = 60.0
"""Far beyond what anything here takes: the machine may be busy."""
STATUS = 0x8000
"""From here the fleet's statuses are, over the air."""
FREE, BOOK_ON, BOOK_OFF = STATUS + 15, STATUS + 17, STATUS + 11


class Cell:
    """Use `async with cell(folder) as here`. `base`: the first radio. `radio(issi)`: an officer."""

    def __init__(self, folder: Path, bases: Sequence[TetraRadio], officers: Sequence[TetraOfficer]):
        self.folder = folder
        self.pnc = PncServer(ROOT / "config" / "pnc", "127.0.0.1", 0)
        self.bases = list(bases)
        self.officers = list(officers)
        self.daemon: Daemon
        self.console: Console

    @property
    def base(self) -> TetraRadio:
        return self.bases[0]

    def radio(self, issi: str) -> TetraOfficer:
        return next(each for each in self.officers if each.issi == issi)

    async def answered(self, officer: TetraOfficer, text: str) -> list[dict[str, Any]]:
        """Ask, and hear the whole answer, part by part."""
        number = officer.ask(text)
        return list(await officer.until(lambda: officer.parts(number), WITHIN_S))

    async def told(self, officer: TetraOfficer, words: str, *, since: int = 0) -> str:
        """The first notice with these words. since: how much was heard before it."""

        def heard() -> str:
            said = [h.body["text"] for h in officer.heard[since:] if h.channel == "notice"]
            return next((text for text in said if words in text), "")

        return str(await officer.until(heard, WITHIN_S))

    async def on_record(self, event: str, **fields: object) -> dict[str, Any]:
        """The first such record, when it is there."""

        def found() -> list[dict[str, Any]]:
            bodies = [leaf.body for leaf in audit(self.daemon.state)]
            return [
                each for each in bodies if each["event"] == event and fields.items() <= each.items()
            ]

        await until(found, WITHIN_S)
        return found()[0]

    async def up(self, base: TetraRadio, *states: str) -> None:
        """Until the daemon says so of this radio."""

        async def state() -> str:
            links = (await self.daemon.snapshot())["links"]
            return next((each["state"] for each in links if each["id"] == base.name), "")

        async with asyncio.timeout(WITHIN_S):
            while await state() not in (states or ("up", "silent")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def settled(self) -> None:
        """Until every check on record has its outcome."""

        def done() -> bool:
            leaves = audit(self.daemon.state)
            opened = {leaf["check"] for leaf in leaves if leaf["event"] == "opened"}
            ends = {"answered", "refused", "denied", "cancelled"}
            return opened <= {leaf["check"] for leaf in leaves if leaf["event"] in ends}

        await until(done, WITHIN_S)

    def queries(self) -> list[dict[str, Any]]:
        """Q: every query that reached the PNC server."""
        return [
            {
                "check": each.check,
                "attempt": each.attempt,
                "key_text": each.key_text,
                "at_ms": each.at_ms,
            }
            for each in self.pnc.queries
        ]

    def verdict(self) -> list[str]:
        """Every invariant that the join finds violated."""
        state = self.daemon.state
        leaves = audit(state)
        replies = [
            {
                "check": each.check,
                "attempt": each.attempt,
                "kind": each.kind,
                "warnings": each.warnings,
            }
            for each in self.pnc.replies
        ]
        return judge(
            Evidence(
                self.officers,
                self.queries(),
                leaves,
                self.console,
                replies=replies,
                contents=contents(state),
            )
        )


def fleet(text: str, issis: Sequence[str]) -> str:
    """The sample fleet with TETRA radios for these terminals, and the statuses as they are over the
    air."""
    for issi in issis:
        text, found = re.subn(
            rf'(issi = "{issi}"\n(?:[a-z_]+ = .*\n)*?device_class = )"[a-z]+"', r'\1"tetra"', text
        )
        assert found == 1, issi
    return text


@contextlib.asynccontextmanager
async def cell(
    folder: Path,
    *,
    habits: Sequence[Habits] = (PLAIN,),
    air: Air = STILL,
    issis: Sequence[str] = ISSIS,
    seed: int = 1,
    ack: bool = True,
    mobiles: Mapping[str, Mobile] | None = None,
    section: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    policy: Mapping[str, str] | None = None,
) -> AsyncIterator[Cell]:
    """habits: of the radios, one each; officers are heard by them in turn. section: more of each
    `[[tetra]]`. policy: words of the sample to replace."""
    clock = RealClock()
    bases = [
        TetraRadio(
            name=f"tetra-{n}",
            line=PtyLine(folder / f"tetra-{n}"),
            clock=clock,
            habits=msgspec.structs.replace(each, boot_s=min(each.boot_s, 1.0)),
            air=air,
            ssi=6_000_001 + n,
            seed=seed,
        )
        for n, each in enumerate(habits)
    ]
    officers = [
        TetraOfficer(issi, bases[n % len(bases)], ack=ack, mobile=(mobiles or {}).get(issi))
        for n, issi in enumerate(issis)
    ]
    here = Cell(folder, bases, officers)
    sample = (ROOT / "config" / "fleet.toml").read_text("utf-8")
    (folder / "fleet.toml").write_text(fleet(sample, issis), "utf-8")
    tasks: list[asyncio.Task[None]] = []
    await here.pnc.start()
    for base in bases:
        base.plug()
    here.daemon = Daemon(
        folder,
        tetra={
            base.name: {"port": base.line.path, "rtscts": False, **(section or {})}
            for base in bases
        },
        pnc_url=here.pnc.url,
        checks={"deadline_s": 6.0, "resend_s": 5.0, **(checks or {})},
        sections=sections,
    )
    for old, new in (policy or {}).items():
        path = folder / "policy.toml"
        assert old in path.read_text("utf-8")
        path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    here.console = Console(here.daemon.url)
    try:
        await here.daemon.start()
        tasks.append(asyncio.create_task(here.console.run(), name="console"))
        tasks += [asyncio.create_task(each.run(), name="officer") for each in officers]
        async with asyncio.timeout(WITHIN_S):
            await here.console.connected.wait()
        for base in bases:
            await here.up(base)
        yield here
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for base in bases:
            base.close()
        await here.daemon.close()
        with contextlib.suppress(OSError):
            await here.pnc.stop()
