"""A radio at the gateway, the network around it and whoever is in its reach: in time, without I/O.

What the air does to a message is chance by a seed: it takes its time, is lost, comes twice,
overtakes another, is refused as busy or for a full stack, or is never acknowledged. Whoever owns
the line calls `wrote` and `due` with the time and writes what they return.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator

import msgspec

from simulators.tetra_air import Sdu
from simulators.tetra_pei import Cme, Pei, Sent

FLYING_MOST = 4096
"""Messages on the air at once; more is lost and counted."""


class Air(msgspec.Struct, frozen=True, kw_only=True):
    """How the network does. delay_s: least and most, each way. All else is a chance: lost and
    twice, each way; overtakes: it does not wait for what was sent before it; fails: told as 5;
    mute: what became of it is never told; busy, full, unacked: refused with 42, 20 or 31."""

    delay_s: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0
    twice: float = 0.0
    overtakes: float = 0.0
    fails: float = 0.0
    mute: float = 0.0
    busy: float = 0.0
    full: float = 0.0
    unacked: float = 0.0


STILL = Air()
NEAR = Air(delay_s=(0.1, 0.3))
"""A quiet cell at its best: for a play that has no time."""
USUAL = Air(delay_s=(0.3, 0.9), twice=0.01, busy=0.02)
SLOW = Air(delay_s=(0.3, 8.0), overtakes=0.2)
ROUGH = Air(
    delay_s=(0.3, 2.0),
    lost=0.1,
    twice=0.1,
    overtakes=0.2,
    fails=0.05,
    mute=0.02,
    busy=0.1,
    full=0.03,
    unacked=0.05,
)
AIRS = {"still": STILL, "near": NEAR, "usual": USUAL, "slow": SLOW, "rough": ROUGH}

Hear = Callable[[Sdu], None]


class Cell:
    """The radio's interface (`pei`), and its handsets by SSI."""

    def __init__(self, pei: Pei, air: Air = STILL, *, seed: int | str = 1) -> None:
        self.pei = pei
        self.air = air
        self.lost = 0
        """Messages that the air swallowed, either way."""
        self._random = random.Random(f"{seed}/{pei.ssi}")  # noqa: S311  (no secret: weather)
        self._hear: dict[int, Hear] = {}
        self._absent: set[int] = set()
        self._flying: list[tuple[float, int, Callable[[float], bytes]]] = []
        self._numbers = itertools.count()
        self._last_s: dict[tuple[str, int], float] = {}
        self._reference = 0
        self._taking = False
        pei.refuse = self._refuse

    # ----------------------------------------------------------------- who is there

    def attach(self, ssi: int, hear: Hear) -> None:
        self._hear[ssi] = hear

    def cover(self, ssi: int, there: bool) -> None:
        """Into the network's reach, or out of it."""
        (self._absent.discard if there else self._absent.add)(ssi)

    def covers(self, ssi: int) -> bool:
        return ssi in self._hear and ssi not in self._absent

    # ----------------------------------------------------------------- in time

    def wrote(self, data: bytes, now_s: float) -> bytes:
        """The gateway wrote; what its radio says to that at once."""
        out = self.pei.feed(data, now_s)
        return out + self.due(now_s)

    def transmit(self, ssi: int, sdu: Sdu, now_s: float) -> bool:
        """A handset sends. False: it is out of reach, and knows it."""
        if not self.covers(ssi):
            return False
        for _ in range(self._copies()):
            self._fly(
                self._arrival_s("up", ssi, now_s),
                lambda at_s: self.pei.deliver(ssi, sdu, at_s),
            )
        return True

    def due(self, now_s: float) -> bytes:
        """What time has brought to the line; handsets hear what has come to them."""
        if self._taking:
            return b""  # a handset replies while it hears: whoever it hears from goes on with that
        self._taking = True
        try:
            out = self.pei.due(now_s)
            self._send_on(now_s)
            while self._flying and self._flying[0][0] <= now_s:
                out += heapq.heappop(self._flying)[2](now_s)
        finally:
            self._taking = False
        return out

    @property
    def flying(self) -> int:
        return len(self._flying)

    # ----------------------------------------------------------------- chance

    def _happens(self, chance: float) -> bool:
        # Drawn even where nothing can happen: another air plays the same rest.
        return self._random.random() < chance

    def _copies(self) -> int:
        lost, twice = self._happens(self.air.lost), self._happens(self.air.twice)
        self.lost += lost
        return 0 if lost else 1 + twice

    def _refuse(self) -> Cme | None:
        chances = (
            (Cme.BUSY, self.air.busy),
            (Cme.STACK_FULL, self.air.full),
            (Cme.NO_LAYER_2_ACK, self.air.unacked),
        )
        hit = [error for error, chance in chances if self._happens(chance)]
        return hit[0] if hit else None

    def _arrival_s(self, way: str, ssi: int, now_s: float) -> float:
        at_s = now_s + self._random.uniform(*self.air.delay_s)
        last_s = self._last_s.get((way, ssi), at_s)
        if not self._happens(self.air.overtakes):
            at_s = max(at_s, last_s)
        self._last_s[way, ssi] = max(at_s, last_s)
        return at_s

    # ----------------------------------------------------------------- on the air

    def _fly(self, at_s: float, arrive: Callable[[float], bytes]) -> None:
        if len(self._flying) >= FLYING_MOST:
            self.lost += 1
            return
        heapq.heappush(self._flying, (at_s, next(self._numbers), arrive))

    def _send_on(self, now_s: float) -> None:
        """Take what the radio accepted from the gateway."""
        for sent in self._accepted():
            ssi = int(sent.party[-8:])
            failed = self._happens(self.air.fails) or not self.covers(ssi)
            mute = self._happens(self.air.mute)
            at_s = self._arrival_s("down", ssi, now_s)
            self._fly(at_s, lambda _, s=sent, f=failed, m=mute: self._told(s, f, m))  # type: ignore[misc]
            for _ in range(0 if failed else self._copies()):
                at_s = self._arrival_s("down", ssi, now_s)
                self._fly(at_s, lambda _, ssi=ssi, sdu=sent.sdu: self._heard(ssi, sdu))  # type: ignore[misc]

    def _accepted(self) -> Iterator[Sent]:
        while self.pei.outbox:
            yield self.pei.outbox.popleft()

    def _told(self, sent: Sent, failed: bool, mute: bool) -> bytes:
        if mute:
            self.pei.forget_outcome(sent.instance)
            return b""
        self._reference = (self._reference + 1) % 256
        return self.pei.outcome(sent.instance, not failed, self._reference)

    def _heard(self, ssi: int, sdu: Sdu) -> bytes:
        if self.covers(ssi):
            self._hear[ssi](sdu)
        return b""
