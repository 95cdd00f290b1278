"""A TETRA radio at the gateway's serial port: its interface on a PTY, its network and its handsets.

One line carries many officers: each is an SSI in the radio's cell. `plug` opens the line and keeps
the time of what is on the air, `unplug` pulls the cable; a radio that was pulled out keeps its
power, so its registrations are still there, and what comes meanwhile is lost to the gateway.
"""

from __future__ import annotations

import asyncio

from simulators.clock import Clock
from simulators.line_end import LineEnd
from simulators.lines import Line
from simulators.tetra_air import Sdu
from simulators.tetra_cell import STILL, Air, Cell, Hear
from simulators.tetra_pei import PLAIN, Habits, Pei

OUT_MOST = 65536
"""Bytes that may wait for a gateway that does not read; more is lost and counted."""
BEAT_S = 0.02


class TetraRadio:
    """Use `plug`, `unplug`; `attach` and `transmit` for its handsets."""

    def __init__(
        self,
        *,
        name: str,
        line: Line,
        clock: Clock,
        habits: Habits = PLAIN,
        air: Air = STILL,
        ssi: int = 6_000_001,
        seed: int | str = 1,
    ) -> None:
        self.name = name
        self.line = line
        self.pei = Pei(habits, ssi=ssi)
        self.cell = Cell(self.pei, air, seed=seed)
        self.lost = 0
        """Bytes for a gateway that was not there, or did not read."""
        self._clock = clock
        self._end = LineEnd(line, take=self._hears, most=OUT_MOST)
        self._beat: asyncio.Task[None] | None = None

    # ----------------------------------------------------------------- the cable

    @property
    def plugged(self) -> bool:
        return self._end.plugged

    def plug(self) -> None:
        """Open the line (a new PTY behind the same link). Raises OSError."""
        if self.plugged:
            return
        self._end.plug()
        if self._beat is None:
            self._beat = asyncio.create_task(self._keep_time(), name=f"radio {self.name}")
        self._say(self.pei.habits.babble)

    def unplug(self) -> None:
        """Pull the cable: the gateway sees a hang-up. The air goes on until `close`."""
        self._end.unplug()

    def close(self) -> None:
        """Off for good."""
        self.unplug()
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def reboot(self) -> None:
        """The battery was out for a moment; the cable stays in."""
        self.pei.boot(self._clock.monotonic_s())

    # ----------------------------------------------------------------- its handsets

    def attach(self, ssi: int, hear: Hear) -> None:
        self.cell.attach(ssi, hear)

    def transmit(self, ssi: int, sdu: Sdu) -> bool:
        """A handset sends. False: it is out of the network's reach."""
        now_s = self._clock.monotonic_s()
        sent = self.cell.transmit(ssi, sdu, now_s)
        self._say(self.cell.due(now_s))
        return sent

    def says(self, data: bytes) -> None:
        """Whatever a test wants it to say by itself."""
        self._say(data)

    # ----------------------------------------------------------------- the line

    async def _keep_time(self) -> None:
        while True:
            await self._clock.sleep(BEAT_S)
            self._say(self.cell.due(self._clock.monotonic_s()))

    def _hears(self, data: bytes) -> None:
        self._say(self.cell.wrote(data, self._clock.monotonic_s()))

    def _say(self, data: bytes) -> None:
        if data and not self._end.say(data):
            self.lost += len(data)
