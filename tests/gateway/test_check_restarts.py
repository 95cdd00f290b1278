"""kill -9 at each point of a check, and a start on what is on disk (3.1 P1-P8, H01, H13, I19)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from gateway.check_views import may_still_see
from gateway.checks import RESTORE_WAITS_S, RESTORED_AT_ONCE
from gateway.errors import LedgerUnavailable, PncDown
from gateway.messages import AckState, DeliveryAck, Outcome, Result
from gateway.ports import CheckRow, OutboxRow, PutCheck, PutOutbox
from tests.fake_ledger import Disk, FakeLedger
from tests.fakes import FakeClock, settle
from tests.gateway.house import ISSI, House, config, other_holder
from tests.gateway.test_checks import with_policy, with_rule


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


async def test_p1_killed_before_the_commit_nothing_is_known(house: House) -> None:
    """No record, no acknowledgement: the bearer brings it again, and then it is a new check."""
    house.ledger.gate.clear()
    question = house.question()
    said = house.say(question)
    await settle()
    await house.restart()
    assert (said.settled, house.disk.checks, house.pnc.asked) == (0, {}, [])
    house.say(question)
    await settle()
    assert len(house.results) == 1


async def test_p3_killed_before_it_was_asked_it_is_asked() -> None:
    """Within the deadline, as an attempt with a record of its own; the same check, one outcome."""
    async with House(config(concurrency=1)) as house:
        house.pnc.hang()
        await house.ask()
        await house.ask("TE99ABC")
        queued = house.newest()
        await house.restart()
        await settle(60)
        assert house.disk.checks[queued].outcome == "answered"
        assert [r.attempt for r in house.on_record("asked", queued)] == [1]


async def test_p4_killed_while_asking_it_asks_again_on_record(house: House) -> None:
    """Attempt 2, the same id; what the PNC heard and what is on record agree; one outcome."""
    house.pnc.hang()
    await house.ask("TE99ABC")
    await house.passes(3)
    await house.restart()
    await settle()
    assert [query.attempt for query in house.pnc.asked] == [1, 2]
    assert len({query.check for query in house.pnc.asked}) == 1
    assert [r.attempt for r in house.on_record("asked")] == [1, 2]
    assert len(house.on_record("answered")) == 1
    assert house.results[0].outcome is Outcome.ANSWERED


async def test_attempts_are_counted_over_restarts(house: House) -> None:
    """M13: a question that kills us each time it is asked ends as a failure after three."""
    for _ in range(5):
        house.pnc.hang()
    await house.ask()
    for _ in range(4):
        await house.restart()
    assert [query.attempt for query in house.pnc.asked] == [1, 2, 3]
    assert [(r.outcome, r.why) for r in house.results[:1]] == [(Outcome.FAILED, "INTERRUPTED")]


async def test_p5_past_the_deadline_it_expires_without_a_question(house: House) -> None:
    """D3: no query after the deadline, though the process was away for it."""
    house.pnc.hang()
    await house.ask()
    await house.kill()
    await house.clock.advance(20)
    house.ledger = FakeLedger(house.disk)
    await house.start()
    assert len(house.pnc.asked) == 1
    assert [r.outcome for r in house.results] == [Outcome.EXPIRED]
    assert house.disk.of(house.newest())[-1] == "answered"


async def test_what_is_left_of_the_deadline_counts_after_a_restart(house: House) -> None:
    """It is neither begun anew nor cut short, though the wall clock was set back meanwhile."""
    for back_ms in (0, 3_600_000):
        house.pnc.hang()
        await house.ask()
        await house.passes(10)
        house.clock.step_wall(-back_ms)
        house.pnc.hang()
        await house.restart()
        await house.passes(4)
        assert house.results == []
        await house.passes(1.5)
        assert [r.outcome for r in house.results] == [Outcome.EXPIRED]
        await house.read(house.newest())
        house.link.sent.clear()


async def test_p6_killed_before_the_first_send_the_stored_bytes_are_sent(house: House) -> None:
    """Once; nothing is asked again, nothing is disclosed again."""
    house.link.up = False
    await house.ask("TE99ABC")
    stored = house.disk.outbox[house.newest()].payload
    house.link.up = True
    await house.restart()
    assert [msgspec.json.encode(result) for result in house.results] == [stored]
    assert (len(house.pnc.asked), len(house.on_record("disclosed"))) == (1, 1)


async def test_p7_sent_and_not_acknowledged_it_is_sent_again_the_same(house: House) -> None:
    await house.ask("TE99ABC")
    await house.restart()
    first, second = house.results
    assert first == second
    said = await house.read(first.check)
    assert house.disk.of(first.check)[-1] == "read"
    assert said.settled == 1
    await house.restart()
    assert len(house.results) == 2


async def test_p8_an_acknowledgement_that_was_not_written_costs_one_more_send(house: House) -> None:
    await house.ask("TE99ABC")
    house.ledger.gate.clear()
    await house.read(house.newest())
    await house.restart()
    assert len(house.results) == 2
    await house.read(house.newest())
    await house.restart()
    assert len(house.results) == 2


async def test_a_wait_goes_on_where_it_was(house: House) -> None:
    """Ten minutes from the outcome, not from the restart."""
    house.link.up = False
    await house.ask("TE99ABC")
    await house.passes(400)
    await house.restart()
    await house.passes(150)
    assert house.disk.of(house.newest())[-1] != "stale"
    await house.passes(60)
    assert house.disk.of(house.newest())[-1] == "stale"
    house.link.up = True
    await house.passes(200)
    assert house.results == []
    assert house.disk.outbox == {}


async def test_what_waited_too_long_while_we_were_away_is_never_sent(house: House) -> None:
    house.link.up = False
    await house.ask("TE99ABC")
    await house.kill()
    await house.clock.advance(601)
    house.link.up = True
    house.ledger = FakeLedger(house.disk)
    await house.start()
    await house.passes(1)
    assert house.results == []
    assert house.disk.of(house.newest())[-1] == "stale"


@pytest.mark.parametrize("change", ["holder", "policy"])
async def test_what_waits_and_is_no_longer_his_is_never_sent(house: House, change: str) -> None:
    """The terminal or the rules changed while we were away: stale, undelivered (decision 13)."""
    house.link.up = False
    await house.ask("TE99ABC")
    house.link.up = True
    new = other_holder(house.config) if change == "holder" else with_policy(house.config, rules=())
    await house.restart(new)
    await house.passes(30)
    assert house.results == []
    assert house.disk.of(house.newest())[-1] == "stale"


@pytest.mark.parametrize("stage", ["hold", "prompt"])
async def test_what_was_held_or_prompted_is_so_after_a_restart(stage: str) -> None:
    """No way around a hold or a prompt by crashing; afterwards it is disclosed as it would be."""
    async with House(with_rule(config(), **{stage: True})) as house:
        await house.ask("TE99ABC")
        await house.restart()
        assert house.results == []
        check = house.newest()
        if stage == "hold":
            house.rules_on(check)
            await settle()
        else:
            assert [n.kind for n in house.notices] == ["waiting", "waiting"]
            await house.status(15)
        assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
        told = house.on_record("disclosed")
        assert [each.detail for each in told[:-1]] == ["with the prompt"] * (stage == "prompt")
        assert {"vehicle", "stolen"} <= set(told[-1].fields)


async def test_what_was_held_goes_stale_ten_minutes_after_its_outcome() -> None:
    async with House(with_rule(config(), hold=True)) as house:
        await house.ask()
        await house.passes(400)
        await house.restart()
        await house.passes(190)
        assert house.disk.of(house.newest())[-1] == "answered"
        await house.passes(20)
        assert house.disk.of(house.newest())[-1] == "stale"


async def test_a_restart_without_traffic_changes_nothing(house: House) -> None:
    """I19: ended, waiting and expired checks, and an open emergency; only `started` is new."""
    await house.ask("TE99ABC")
    await house.read(house.newest())
    house.link.up = False
    await house.ask("TE99AAB")
    await house.status(0)
    await settle()

    def state() -> tuple[object, ...]:
        disk = house.disk
        events = [r for r in disk.records if r.event not in ("started", "stopped")]
        return (events, dict(disk.checks), dict(disk.outbox), dict(disk.alarms))

    before = state()
    for _ in range(3):
        await house.restart()
    assert state() == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda row: msgspec.structs.replace(row, state=b"garbage"),
        lambda row: msgspec.structs.replace(row, state=b"{}"),
        lambda row: msgspec.structs.replace(row, result=b"\xff"),
    ],
)
async def test_a_row_that_cannot_be_read_ends_as_a_failure_and_costs_itself(
    house: House, harm: Callable[[object], object]
) -> None:
    """H13: the service starts, the others go on, the row is closed on record, once."""
    house.pnc.hang()
    await house.ask()
    bad = house.newest()
    house.pnc.hang()
    await house.ask()
    house.disk.checks[bad] = harm(house.disk.checks[bad])  # type: ignore[assignment]
    await house.restart()
    await settle()
    assert house.disk.of(bad)[-1] == "answered"
    assert house.disk.checks[bad].outcome == "failed"
    assert not house.disk.checks[bad].open
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]
    records = len(house.disk.records)
    await house.restart()
    assert len(house.on_record("answered", bad)) == 1
    assert len(house.disk.records) <= records + 1
    assert "check.unreadable" in [line for line, _ in house.journal.lines]


async def test_a_row_that_crashes_us_is_put_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H13: readable, and still a defect of ours with it: it ends as a failure, the rest starts."""
    house.link.up = False
    await house.ask("TE99ABC")
    bad = house.newest()
    await house.ask("TE99AAB")
    house.link.up = True

    def broken(check: object, rules: object) -> bool:
        if getattr(check, "id", "") == bad:
            raise RuntimeError("planted")
        return may_still_see(check, rules)  # type: ignore[arg-type]

    monkeypatch.setattr("gateway.checks.may_still_see", broken)
    await house.restart()
    assert house.disk.of(bad)[-1] == "stale"
    assert not house.disk.checks[bad].open
    assert [r.check for r in house.results] == [house.newest()]


async def test_a_start_without_a_ledger_is_no_start(house: House) -> None:
    """No record, no service."""
    await house.kill()
    house.ledger = FakeLedger(house.disk)
    house.ledger.down = True
    with pytest.raises(LedgerUnavailable):
        await house.start()


async def test_drain_finishes_what_is_under_way_and_leaves_the_rest_on_record(house: House) -> None:
    """H02: what is being written is written, and what follows from it; a question that hangs is
    cut off and goes on after the next start."""
    house.pnc.hang()
    await house.ask("TE99ABC")
    house.ledger.gate.clear()
    question = house.say(house.question("TE99AAB"))
    await settle()

    async def later() -> None:
        await settle(5)
        house.ledger.gate.set()

    opening = asyncio.ensure_future(later())
    await house.core.drain(0.2)
    await opening
    assert question.settled == 1
    assert {row.outcome for row in house.disk.checks.values()} <= {"", "answered"}
    for task in house._tasks:
        task.cancel()
    await house.start()
    await settle(60)
    assert {row.outcome for row in house.disk.checks.values()} == {"answered"}


@pytest.mark.parametrize("writes", range(1, 9))
@pytest.mark.parametrize("mode", ["once", "for good"])
async def test_failing_the_nth_write_leaves_every_invariant(writes: int, mode: str) -> None:
    """SQLite's method: let the nth commit of one conversation fail, once or from then on, then
    heal: one outcome, nothing shown that is not on record, everything settled."""
    async with House() as house:
        calls = 0

        class Failing(FakeLedger):
            async def commit(self, records, changes=()):  # type: ignore[no-untyped-def]
                nonlocal calls
                calls += 1
                self.down = calls == writes if mode == "once" else calls >= writes
                await super().commit(records, changes)

        failing = Failing(house.disk)
        house.ledger.commit = failing.commit  # type: ignore[method-assign]
        house.pnc.script.append(PncDown("x"))
        await house.ask("TE99ABC")
        await house.passes(2)
        for result in house.results:
            house.say(DeliveryAck(check=result.check, part=1, state=AckState.DELIVERED))
            house.say(DeliveryAck(check=result.check, part=1, state=AckState.READ))
        await house.passes(20)
        writes = 10_000  # healed
        await house.passes(5)
        for result in house.results:
            await house.read(result.check)
        await house.passes(5)
        ends = house.on_record("answered") + house.on_record("refused")
        checks = {record.check for record in house.on_record("opened")}
        assert sorted(r.check for r in ends) == sorted(checks)
        assert len({msgspec.json.encode(r) for r in house.results}) <= 1
        for result in house.results:
            if result.outcome is Outcome.ANSWERED:
                assert house.on_record("disclosed", result.check)
        heard = bool(house.results) or any("USE VOICE" in r.why for r in house.receipts)
        assert heard, "the officer was left in silence"
        assert house.all_settled()
        assert not [row for row in house.disk.checks.values() if row.open]


# --------------------------------------------------------------------------- a large backlog


async def with_a_backlog(house: House, count: int) -> None:
    """Killed with so many answers on their way, all of them too old by now."""
    house.link.up = False
    await house.ask("TE99ABC")
    await house.kill()
    (row,), (parcel,) = house.disk.checks.values(), house.disk.outbox.values()
    for n in range(count):
        id_ = f"01TEST{n:06d}B{n:03X}"
        house.disk.checks[id_] = msgspec.structs.replace(row, id=id_, dedupe=id_)
        house.disk.outbox[id_] = msgspec.structs.replace(parcel, id=id_, check=id_, stale_at_ms=1)


async def test_a_backlog_is_taken_up_a_few_in_a_turn(house: House) -> None:
    """Thousands of open checks must not hold the loop: between two turns of it there are few."""
    await with_a_backlog(house, 300)
    begun = asyncio.ensure_future(house.start())
    turns, before = [], 0
    while not begun.done():
        now = len([1 for word, _ in house.journal.lines if word == "check.restarted"])
        turns.append(now - before)
        before = now
        await asyncio.sleep(0)
    assert before == 301
    assert max(turns) == RESTORED_AT_ONCE
    await settle(700)
    assert len(house.on_record("stale")) == 300


async def test_a_backlog_leaves_the_ledger_room_and_waits_for_it_in_vain_only_so_long() -> None:
    """No more ends wait to be written than the crew has places; with a disk that hangs the service
    starts all the same, and all are written when it does not any more."""
    async with House(config(queue=1, concurrency=1)) as house:
        await with_a_backlog(house, 800)
        read = house.ledger.open_checks

        async def hanging() -> list[CheckRow]:
            house.ledger.gate.clear()
            return await read()

        house.ledger.open_checks = hanging  # type: ignore[method-assign]
        begun = asyncio.ensure_future(house.start())
        await house.clock.advance(RESTORE_WAITS_S - 1)
        crew = house.core.checks.crew
        assert crew.full
        assert len(crew) < 300 + RESTORED_AT_ONCE
        assert not begun.done()
        await house.clock.advance(1.5)
        await settle(100)  # each desk takes up its own after the checks
        assert begun.done()
        house.ledger.gate.set()
        await house.clock.advance(5)
        await settle(2000)
        assert len(house.on_record("stale")) == 800


# --------------------------------------------------------------------------- set back

HOUR_S = 3600


@pytest.mark.parametrize("counter", ["fake", "another machine"])
async def test_no_answer_of_an_hour_ago_is_given_for_a_new_one(house: House, counter: str) -> None:
    """H08: a text is typed again an hour later, when the clock was set back by that hour and we
    were started anew: it is asked. What another machine counted says nothing, and there, as with
    no restart at all, the repeat rule goes by the wall clock."""
    house.say(house.typed())
    await settle()
    await house.read(house.newest())
    await house.passes(HOUR_S)
    house.clock.step_wall(-(HOUR_S - 10) * 1000)
    house.clock.counter = counter
    await house.restart()
    house.say(house.typed())
    await settle()
    assert len(house.pnc.asked) == (2 if counter == "fake" else 1)


async def test_no_answer_waits_longer_because_the_clock_was_set_back(house: House) -> None:
    """H08: ten minutes are ten minutes, however late our clock says that it is."""
    house.link.up = False
    await house.ask("TE99ABC")
    await house.kill()
    await house.clock.advance(HOUR_S)
    house.clock.step_wall(-HOUR_S * 1000)
    house.ledger = FakeLedger(house.disk)
    house.link.up = True
    await house.start()
    await house.passes(1)
    assert house.results == []
    assert house.disk.of(house.newest())[-1] == "stale"


async def test_nothing_is_asked_after_its_deadline_because_the_clock_was_set_back(
    house: House,
) -> None:
    """H08 with D3: what was asked an hour ago is not asked on now."""
    house.pnc.hang()
    await house.ask()
    await house.kill()
    await house.clock.advance(HOUR_S)
    house.clock.step_wall(-HOUR_S * 1000)
    house.ledger = FakeLedger(house.disk)
    await house.start()
    assert len(house.pnc.asked) == 1
    assert [r.outcome for r in house.results] == [Outcome.EXPIRED]


async def test_a_machine_that_was_started_anew_counts_from_zero(house: House) -> None:
    """Its small figures prove nothing against the wall clock, and cost nobody an answer."""
    house.link.up = False
    await house.ask("TE99ABC")
    await house.kill()
    house.clock._mono_s = 30.0
    house.ledger = FakeLedger(house.disk)
    house.link.up = True
    await house.start()
    assert [r.outcome for r in house.results] == [Outcome.ANSWERED]


STORED = Path(__file__).resolve().parents[1] / "corpus/stored/check-r0001.json"
"""State and result of a check under way to its officer, as a store of the first version has them:
written down, so that no change of ours can move them."""


async def test_a_check_that_an_older_version_stored_is_gone_on_with() -> None:
    """An update must not cost an officer the answer that waits, nor a repeat its old bytes."""
    stored = msgspec.json.decode(STORED.read_bytes(), type=dict[str, msgspec.Raw])
    result = msgspec.json.decode(stored["result"], type=Result)
    disk, now_ms = Disk(), FakeClock().wall_ms()
    row = CheckRow(
        id=result.check,
        short=result.short,
        receipt=result.receipt,
        terminal=ISSI,
        dedupe="d",
        opened_at_ms=now_ms,
        state=bytes(stored["state"]),
        open=True,
        outcome="answered",
        result=bytes(stored["result"]),
    )
    waiting = OutboxRow(
        id=row.id,
        check=row.id,
        terminal=ISSI,
        holder=f"police:1001@{ISSI}",
        payload=bytes(stored["result"]),
        queued_at_ms=now_ms,
        stale_at_ms=now_ms + 600_000,
        priority=0,
    )
    disk.write([], [PutCheck(row), PutOutbox(waiting)])
    async with House(disk=disk) as house:
        await settle()
        assert house.results == [result]
        await house.read(row.id)
        (read,) = house.on_record("read")
        assert (read.officer, read.agency, read.receipt) == ("1001", "police", "TEST-0001")
        assert not house.disk.outbox
