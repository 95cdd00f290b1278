"""What a figure does over hours: least squares on minute means, with the doubt that is left.

Samples that follow each other are not independent (a fault lasts for several of them), so their
own scatter would promise too much; means of blocks longer than a fault come near to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DAY_S = 86400.0
TWO_SIGMA = 2.0


class Slope(NamedTuple):
    """first, last: means of the first and last tenth. per_day, doubt: the slope and two standard
    errors of it, in units a day; None with fewer than three blocks."""

    first: float
    last: float
    per_day: float | None
    doubt: float | None


def means(samples: Sequence[tuple[float, float]], block_s: float) -> list[tuple[float, float]]:
    """(time, value) of each block of so many seconds that holds a sample."""
    blocks: dict[int, list[tuple[float, float]]] = {}
    for at_s, value in samples:
        blocks.setdefault(int(at_s // block_s), []).append((at_s, value))
    return [
        (sum(at_s for at_s, _ in held) / len(held), sum(value for _, value in held) / len(held))
        for _, held in sorted(blocks.items())
    ]


def slope(samples: Sequence[tuple[float, float]], block_s: float) -> Slope:
    """Of (seconds, value). Raises ValueError without any."""
    if not samples:
        raise ValueError("no samples")
    values = [value for _, value in samples]
    tenth = max(1, len(values) // 10)
    first, last = sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth
    points = means(samples, block_s)
    if len(points) < 3:
        return Slope(first, last, None, None)
    middle_s = sum(at_s for at_s, _ in points) / len(points)
    middle = sum(value for _, value in points) / len(points)
    spread = sum((at_s - middle_s) ** 2 for at_s, _ in points)
    rise = sum((at_s - middle_s) * (value - middle) for at_s, value in points) / spread
    left = sum((value - middle - rise * (at_s - middle_s)) ** 2 for at_s, value in points)
    error = math.sqrt(left / (len(points) - 2) / spread)
    return Slope(first, last, rise * DAY_S, TWO_SIGMA * error * DAY_S)
