"""Whatever happens to radios and officers, in whatever order: one lead, and nothing for a stranger.

Random walks over everything that makes and ends a booking, with the ledger, the links and the PNC
failing in between. After each step memory, disk and record must say the same of who holds a radio;
at each send the one who reads must be the one who asked.
"""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from gateway.messages import BookOff, Downlink, Issi, Result, StatusReport
from gateway.roster import Booking
from tests.fakes import settle
from tests.gateway.house import ISSI, OTHER, House
from tests.gateway.test_bookings import CONSTABLE, OFF, SERGEANT, on, pool, without

RADIOS = (ISSI, OTHER)
COLLARS = (CONSTABLE, SERGEANT, "1003")
STEPS = 100
WORDS = (
    *("on", "on", "on", "wrong", "second", "off", "one off", "status", "ask", "ask", "ask"),
    *("hang", "ledger", "link", "restart", "revoke", "radio", "time", "late", "back"),
)


class Walk:
    """One house and what may happen in it; `sent` is checked while it happens."""

    def __init__(self, house: House, seed: int) -> None:
        self.house, self.random = house, random.Random(seed)
        self.seen = Counter[str]()
        self.strangers: list[str] = []

    def watch(self) -> None:
        before = self.house.link.took

        def took(terminal: Issi, message: Downlink) -> None:
            before(terminal, message)
            if not isinstance(message, Result):
                return
            asked = self.house.on_record("opened", message.check)
            holder = self.house.core.roster.holder(terminal)
            self.seen["answers"] += bool(message.fields)
            if message.fields and (
                not holder or not asked or f":{asked[0].officer}@{terminal}" not in holder
            ):
                self.strangers.append(f"{message.check} to {terminal}")

        self.house.link.took = took

    async def step(self) -> str:
        house, pick = self.house, self.random.choice
        issi, collar = pick(RADIOS), pick(COLLARS)
        name = pick(WORDS)
        match name:
            case "on":
                house.say(on(collar), issi=issi, redelivered=self.random.random() < 0.1)
            case "wrong":
                house.say(on(collar, pin="0000"), issi=issi)
            case "second":
                house.say(on(collar, second=True), issi=issi)
            case "off":
                house.say(BookOff(), issi=issi)
            case "one off":
                house.say(BookOff(officer=collar), issi=issi)
            case "status":
                house.say(StatusReport(code=OFF), issi=issi)
            case "ask":
                house.say(house.question("TE99STV"), issi=issi)
            case "hang":
                house.pnc.hang()
                house.say(house.question(), issi=issi)
            case "ledger":
                house.ledger.down = not house.ledger.down
            case "link":
                house.link.failing = not house.link.failing
            case "restart":
                house.ledger.down = False
                await house.restart()
                self.watch()
            case "revoke":
                house.core.apply(without(house.config, officer=collar))
            case "radio":
                house.core.apply(without(house.config, terminal=issi))
            case "time":
                await house.passes(self.random.uniform(1, 20))
            case "late":
                house.clock.step_wall(1_800_000)
            case "back":
                house.clock.step_wall(-900_000)
        if self.random.random() < 0.8:
            await settle(40)
        self.seen[name] += 1
        return name

    async def agree(self) -> None:
        """Once the ledger works and all is written, three say the same; then all goes well."""
        house = self.house
        house.ledger.down = house.link.failing = False
        await house.passes(3)
        roster = house.core.roster
        told: dict[tuple[str, str], str] = {}
        for record in house.disk.records:
            if record.event == "booked":
                told[record.terminal, record.officer] = record.detail.split()[0]
            elif record.event == "booked_off":
                told.pop((record.terminal, record.officer), None)
        for issi in RADIOS:
            row = house.disk.kept.get(("booking", issi))
            stored = msgspec.json.decode(row.body, type=Booking).officers if row else ()
            on_record = {officer for terminal, officer in told if terminal == issi}
            assert set(roster.aboard(issi)) == set(stored) == on_record
            assert len(roster.aboard(issi)) == len(set(roster.aboard(issi)))
        house.core.apply(house.config)


@pytest.mark.parametrize("seed", range(24))
async def test_any_history_has_one_lead_and_no_stranger_reads(seed: int) -> None:
    async with House(pool()) as house:
        walk = Walk(house, seed)
        walk.watch()
        history = []
        for n in range(STEPS):
            history.append(await walk.step())
            assert walk.strangers == [], history
            if n % 10 == 9:
                await walk.agree()
        await walk.agree()
        assert walk.strangers == [], history
        assert house.all_settled() or "restart" in history
        assert house.fatal == []


async def test_the_walks_go_somewhere() -> None:
    """Answers were sent and refused in them: an empty walk would prove nothing."""
    seen = Counter[str]()
    for seed in range(4):
        async with House(pool()) as house:
            walk = Walk(house, seed)
            walk.watch()
            for n in range(STEPS):
                await walk.step()
                if n % 10 == 9:
                    await walk.agree()
            seen += walk.seen
            seen["booked"] += len(house.on_record("booked"))
            seen["left"] += len(house.on_record("booked_off"))
            seen["stale"] += len(house.on_record("stale"))
    assert min(seen[name] for name in ("answers", "booked", "left", "stale")) > 5, seen
