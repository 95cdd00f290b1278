"""How long the host takes: seeded, so that the same seed is the same day. Off unless asked for."""

from __future__ import annotations

import math
import random

MOST_S = 10.0
"""A draw beyond this is cut (six in ten thousand): whoever wants more asks for a fault."""
_Z95, _Z99 = 1.6448536269514722, 2.3263478740408408
"""Quantiles of the standard normal distribution."""


class Latency:
    """Lognormal through three quantiles (pnc-domain, 15.5: p50 120 ms, p95 600 ms, p99 2 s).

    One lognormal cannot go through all three, so its slope is steeper beyond p95.
    """

    def __init__(
        self, seed: int, *, p50_s: float = 0.12, p95_s: float = 0.6, p99_s: float = 2.0
    ) -> None:
        """Raises ValueError unless 0 < p50 <= p95 <= p99."""
        if not 0 < p50_s <= p95_s <= p99_s:
            raise ValueError("latency: 0 < p50 <= p95 <= p99")
        self._random = random.Random(seed)  # noqa: S311  a simulated delay, no secret
        self._middle = math.log(p50_s)
        self._slope = (math.log(p95_s) - self._middle) / _Z95
        self._knee = math.log(p95_s)
        self._tail = (math.log(p99_s) - self._knee) / (_Z99 - _Z95)

    def draw_s(self) -> float:
        """Seconds for the next answer, above 0 and at most MOST_S."""
        z = self._random.gauss(0.0, 1.0)
        power = self._middle + self._slope * z
        if z > _Z95:
            power = self._knee + self._tail * (z - _Z95)
        return min(MOST_S, math.exp(power))
