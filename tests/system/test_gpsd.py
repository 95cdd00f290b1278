"""The real gpsd, fed by its own gpsfake with a log of ours: its positions reach whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.app import Gateway, SystemClock, load
from gateway.messages import Event, LinkChanged, LinkState, UnitFix
from tests.adapters.codecs.sentences import sentence
from tests.corpus import ms
from tests.fakes import FakeJournal
from tests.services.gpsfake import Gpsfake
from tests.system.daemon import Daemon

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SECONDS = 900
VOID = (7, 8)
"""Of each ten seconds: those in which the receiver has no fix."""
ISSI = "5001003"
ENOUGH = 12
NEAR_DEG = 1e-6
WITHIN_S = 40.0


def log(path: Path) -> dict[int, tuple[float, float]]:
    """A log of a receiver that moves, loses its fix and has it again; its fixes, by moment."""
    true: dict[int, tuple[float, float]] = {}
    lines: list[str] = []
    for n in range(SECONDS):
        at = START + timedelta(seconds=n)
        clock, day = f"{at:%H%M%S}.00", f"{at:%d%m%y}"
        if n % 10 in VOID:
            lines.append(sentence(f"GPRMC,{clock},V,,,,,,,{day},,,N"))
            continue
        place = f"5234.{n:04},N,00014.{n:04},W"
        lines.append(sentence(f"GPRMC,{clock},A,{place},2.40,045.0,{day},,,A"))
        lines.append(sentence("GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1"))
        true[round(at.timestamp() * 1000)] = (
            52 + (34 + n / 10_000) / 60,
            -(14 + n / 10_000) / 60,
        )
    path.write_text("".join(f"{line}\r\n" for line in lines), "ascii", newline="")
    return true


class LogClock(SystemClock):
    """It is the day of the log, and a moment after its end."""

    def __init__(self) -> None:
        super().__init__()
        self._back_ms = super().wall_ms() - ms("2026-11-22T09:15:01Z")

    def wall_ms(self) -> int:
        return super().wall_ms() - self._back_ms


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Gpsfake]:
    made = Gpsfake(tmp_path / "gpsd", tmp_path / "car.nmea")
    yield made
    made.kill()


@pytest.mark.slow
async def test_a_receiver_behind_the_real_gpsd(fake: Gpsfake, tmp_path: Path) -> None:
    """Each fix is one of the log's, at its moment, once; none while the receiver had none; gone and
    back with the vehicle."""
    true = log(tmp_path / "car.nmea")
    fake.start()
    files = Daemon(tmp_path)
    with files.config.open("a", encoding="utf-8") as config:
        config.write(f'\n[[gpsd]]\nname = "car"\nport = {fake.port}\nterminal = "{ISSI}"\n')
    gateway = Gateway(load(files.config), clock=LogClock(), journal=FakeJournal())
    seen: list[Event] = []
    gateway.bus.tap(seen.append)
    running = asyncio.ensure_future(gateway.run())

    def fixes() -> list[UnitFix]:
        return [each for each in seen if isinstance(each, UnitFix)]

    def told(state: LinkState) -> int:
        return sum(
            isinstance(each, LinkChanged) and each.id == "car" and each.state is state
            for each in seen
        )

    async def until(what: str, ready: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                while not ready():
                    assert not running.done(), running
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what}: {len(fixes())} fixes") from None

    try:
        await until("fixes", lambda: len(fixes()) >= ENOUGH)
        fake.kill()
        await until("down", lambda: told(LinkState.DOWN))
        assert told(LinkState.UP) == 1
        before = len(fixes())
        for fix in fixes():
            assert fix.terminal == ISSI
            assert fix.fixed_at_ms in true, "a moment at which the receiver had no fix"
            lat, lon = true[fix.fixed_at_ms]
            assert abs(fix.lat - lat) < NEAR_DEG
            assert abs(fix.lon - lon) < NEAR_DEG
        moments = [fix.fixed_at_ms for fix in fixes()]
        assert moments == sorted(set(moments)), "a moment twice, or out of order"
        fake.start()
        await until("up again", lambda: told(LinkState.UP) == 2)
        assert len(fixes()) >= before
    finally:
        gateway.stop()
        await running
