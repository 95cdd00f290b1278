"""What there is now, as relays look it up."""

from __future__ import annotations

from gateway.messages import LocationFix, StatusReport
from tests.gateway.house import ISSI, House, config


async def test_it_is_looked_up_at_the_moment() -> None:
    """Nothing of it is kept: what was so a moment ago is not said for what is so now."""
    async with House(config()) as house:
        present = house.core.present
        assert list(present.terminals()) == [each.issi for each in house.config.fleet.terminals]
        assert present.fix(ISSI) is None
        for lat in (52.57, 52.5701):
            house.say(LocationFix(lat=lat, lon=-0.24), issi=ISSI)
            found = present.fix(ISSI)
            assert found is not None
            assert found.lat == lat
        meta = present.meta(ISSI)
        assert meta is not None
        assert meta.t_ms == house.clock.wall_ms()
        assert present.stale_s(ISSI) == 4 * house.config.settings.tracking.staleness_s["handheld"]
        assert present.alarms() == ()
        house.say(StatusReport(code=0), issi=ISSI)
        assert [(each.rule, each.terminal) for each in present.alarms()] == [("EMG", ISSI)]


async def test_who_is_not_in_the_fleet_is_nobody() -> None:
    async with House(config()) as house:
        present = house.core.present
        assert (present.meta("4999999"), present.fix("4999999")) == (None, None)
