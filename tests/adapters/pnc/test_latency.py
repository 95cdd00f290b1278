"""The host's delay: the quantiles of the reference, the same for the same seed."""

from __future__ import annotations

import pytest

from adapters.pnc.latency import MOST_S, Latency


def test_the_quantiles_are_those_of_the_reference() -> None:
    """p50 120 ms, p95 600 ms, p99 2 s (pnc-domain, 15.5)."""
    latency = Latency(7)
    drawn = sorted(latency.draw_s() for _ in range(40_000))
    assert drawn[20_000] == pytest.approx(0.12, rel=0.05)
    assert drawn[38_000] == pytest.approx(0.6, rel=0.05)
    assert drawn[39_600] == pytest.approx(2.0, rel=0.1)
    assert drawn[0] > 0
    assert drawn[-1] <= MOST_S


def test_the_same_seed_is_the_same_day() -> None:
    first, again, other = Latency(1), Latency(1), Latency(2)
    drawn = [first.draw_s() for _ in range(50)]
    assert drawn == [again.draw_s() for _ in range(50)]
    assert drawn != [other.draw_s() for _ in range(50)]


@pytest.mark.parametrize("quantiles", [(0.0, 0.6, 2.0), (0.7, 0.6, 2.0), (0.1, 3.0, 2.0)])
def test_quantiles_out_of_order_are_refused(quantiles: tuple[float, float, float]) -> None:
    p50_s, p95_s, p99_s = quantiles
    with pytest.raises(ValueError, match="p50"):
        Latency(1, p50_s=p50_s, p95_s=p95_s, p99_s=p99_s)
