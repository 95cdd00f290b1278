"""A phone with a Traccar client and the whole gateway: seen, heard in need, and let in no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

from gateway.app import Gateway, load
from gateway.messages import AlarmChanged, Event, LinkChanged, LinkState, UnitFix
from tests.fakes import FakeJournal
from tests.services import free_port
from tests.system.daemon import Daemon

ISSI = "5001007"
OLD, NEW = "the-first-token-of-all", "the-second-token-of-all"
WITHIN_S = 20.0


async def test_a_phone_is_seen_and_heard_in_need(tmp_path: Path) -> None:
    """Its position stands where it said; its SOS is an emergency of its terminal, on record when it
    is answered. A new token is taken over by a reload, and so is that the phone left the fleet."""
    files, port, tokens = Daemon(tmp_path), free_port(), tmp_path / "tokens"
    tokens.write_text(f"{OLD}\n", "utf-8")
    with files.config.open("a", encoding="utf-8") as config:
        config.write(f'\n[[osmand]]\nname = "trackers"\nport = {port}\ntoken_file = "tokens"\n')
    fleet = tmp_path / "fleet.toml"
    sample = fleet.read_text("utf-8")
    fleet.write_text(
        sample.replace(f'issi = "{ISSI}"', f'issi = "{ISSI}"\nnames.osmand = "TRK1"'), "utf-8"
    )
    gateway = Gateway(load(files.config), journal=FakeJournal())
    seen: list[Event] = []
    gateway.bus.tap(seen.append)
    running = asyncio.ensure_future(gateway.run())

    async def until(ready: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not ready():
                assert not running.done(), running
                await asyncio.sleep(0.02)

    def ups() -> int:
        return sum(
            isinstance(each, LinkChanged) and each.id == "trackers" and each.state is LinkState.UP
            for each in seen
        )

    def fixes() -> list[UnitFix]:
        return [each for each in seen if isinstance(each, UnitFix)]

    async def get(token: str, more: str = "") -> int:
        """A position of now, each further north."""
        query = {
            "token": token,
            "id": "TRK1",
            "timestamp": str(round(time.time() * 1000)),
            "lat": f"{52.5725 + 1e-5 * len(fixes()):.5f}",
            "lon": "-0.2431",
            "speed": "4",
        }
        text = "&".join(f"{name}={value}" for name, value in query.items()) + more
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/?{text}") as answer,
        ):
            return answer.status

    try:
        await until(ups)
        assert await get(OLD) == 200
        (fix,) = fixes()
        assert (fix.terminal, fix.lat, fix.lon) == (ISSI, 52.5725, -0.2431)
        assert await get(OLD, "&valid=false") == 204
        assert await get(NEW) == 401
        assert len(fixes()) == 1

        assert await get(OLD, "&alarm=sos") == 200
        alarms = [each for each in seen if isinstance(each, AlarmChanged)]
        # Somebody spoke for a phone of ours without its token; then it called for help.
        raised = list(dict.fromkeys((each.rule, each.terminal) for each in alarms))
        assert raised == [("REJ", ""), ("EMG", ISSI)]
        assert len(fixes()) == 2

        tokens.write_text(f"{NEW}\n", "utf-8")
        assert await gateway.reload()
        await until(lambda: ups() == 2)
        assert await get(OLD) == 401
        assert await get(NEW) == 200

        fleet.write_text(sample, "utf-8")
        assert await gateway.reload()
        assert await get(NEW) == 404
        assert len(fixes()) == 3
    finally:
        gateway.stop()
        await running
