"""R0, common to every fault: it and its end are seen once each, and whom it spares goes on.

Seen once: on the console's stream, in the journal and in the metrics, not once per message.
Spared: counted by what such terminals get while the fault lasts, never timed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.system.daemon import Daemon, until
from tests.system.officers import LineOfficer, MqttOfficer
from tests.system.world import World

ANSWER_S = 20.0
JOURNAL = {"link.down": "down", "link.up": "up"}


class Watch:
    """What became visible of one link (`pnc`, or a name from the configuration) since it began."""

    def __init__(self, world: World, link: str) -> None:
        assert world.daemon is not None
        assert world.console is not None
        self.link = link
        self._daemon: Daemon = world.daemon
        self._console = world.console
        self._events = len(self._console.events)
        self._lines = len(self._daemon.journal())
        self._counted: dict[str, float] = {}

    @classmethod
    async def begin(cls, world: World, link: str) -> Watch:
        """From when the link is up, on the console as well."""
        assert world.daemon is not None
        daemon = world.daemon

        async def state() -> str:
            links = (await daemon.snapshot())["links"]
            return next((str(each["state"]) for each in links if each["id"] == link), "")

        async with asyncio.timeout(10):
            while link != "pnc" and await state() != "up":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)  # a snapshot may be ahead of the stream
        watch = cls(world, link)
        watch._counted = await watch._transitions()
        return watch

    @property
    def shown(self) -> list[str]:
        """States on the console, in order."""
        events = self._console.events[self._events :]
        return [e["state"] for e in events if e["type"] == "link" and e["id"] == self.link]

    @property
    def written(self) -> list[str]:
        """States in the journal, in order."""
        lines = self._daemon.journal()[self._lines :]
        return [
            JOURNAL[line["event"]]
            for line in lines
            if line["event"] in JOURNAL and line["link"] == self.link
        ]

    def reasons(self) -> list[str]:
        lines = self._daemon.journal()[self._lines :]
        return [e["reason"] for e in lines if e["event"] == "link.down" and e["link"] == self.link]

    def security(self) -> list[str]:
        """Reasons of the security events in the journal."""
        lines = self._daemon.journal()[self._lines :]
        return [line["reason"] for line in lines if line["event"] == "security"]

    async def counted(self) -> dict[str, float]:
        """How often the metrics say it went `up` and `down`."""
        now = await self._transitions()
        return {to: now[to] - self._counted.get(to, 0.0) for to in now}

    async def _transitions(self) -> dict[str, float]:
        text = (await self._daemon.get("/metrics"))[1].decode()
        pattern = rf'^gateway_link_transitions_total{{[^}}]*link="{self.link}",to="(\w+)"}} (\S+)$'
        return {to: float(n) for to, n in re.findall(pattern, text, re.MULTILINE)}

    async def until(self, state: str, within_s: float) -> None:
        """The console shows it in this state."""
        await until(lambda: self.shown[-1:] == [state], within_s)

    async def once(self) -> None:
        """The fault and its end, each once, in each of the three."""
        await until(lambda: len(self.written) >= 2)
        assert self.shown == ["down", "up"], self.written
        assert self.written == ["down", "up"]
        if self.link != "pnc":  # its metric is the state of the circuit
            counted = await self.counted()
            assert (counted["down"], counted["up"]) == (1.0, 1.0)


class Asking:
    """An officer who asks, waits for the answer, and asks again: what whom a fault spares does."""

    def __init__(self, officer: LineOfficer | MqttOfficer, mark: str = "TE99AAB") -> None:
        self.officer = officer
        self.answered = 0
        self.stop = False
        self._mark = mark

    async def run(self) -> None:
        while not self.stop:
            if isinstance(self.officer, LineOfficer):
                number = self.officer.ask(f"V {self._mark} R1")
                await self.officer.until(lambda n=number: self.officer.parts(n), ANSWER_S)  # type: ignore[union-attr]
            else:
                ref = await self.officer.ask(kind="vehicle", vrm=self._mark, reason="1")
                await self.officer.until(lambda r=ref: self.officer.result(r), ANSWER_S)  # type: ignore[union-attr]
            self.answered += 1
            await asyncio.sleep(0.1)


async def go_on(spared: list[Asking]) -> None:
    """Each of them gets at least one more answer, from now on."""
    before = [each.answered for each in spared]
    await until(
        lambda: all(each.answered > n for each, n in zip(spared, before, strict=True)), ANSWER_S
    )


@asynccontextmanager
async def asking(*officers: LineOfficer | MqttOfficer) -> AsyncIterator[list[Asking]]:
    """They ask until the end, and then wait for their last answer; one who got none within ANSWER_S
    fails the test."""
    all_of_them = [Asking(officer) for officer in officers]
    tasks = [asyncio.create_task(each.run(), name="asking") for each in all_of_them]
    try:
        yield all_of_them
        for each in all_of_them:
            each.stop = True
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
