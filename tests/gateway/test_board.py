"""The picture that a control room sees: what the stream said, for those who may see it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.board import CHECKS_KEPT
from gateway.errors import LedgerUnavailable
from gateway.messages import (
    Actor,
    AlarmChanged,
    LinkChanged,
    LinkState,
    LocationFix,
    Outcome,
    StatusReport,
    UnitMeta,
    Viewer,
)
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config

ALL = frozenset({"class", "callsign", "position", "identity", "emergency"})
OPERATOR = Viewer(id="op1", kind="operator", rights=ALL)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with House() as house:
        yield house


def viewer(*rights: str) -> Viewer:
    return Viewer(id="v", kind="operator", rights=frozenset(rights))


async def test_a_check_from_opened_to_read(house: House) -> None:
    """Stage by stage, as the stream told it; found by its short form and by its whole id."""
    hang = house.pnc.hang()
    await house.ask("TE99ABC")
    check = house.newest()
    now = house.core.board.check_view(OPERATOR, check[-4:])
    assert now is not None
    assert (now.opened.check, now.stage, now.done) == (check, "pnc", None)
    hang.answer()
    await settle()
    now = house.core.board.check_view(OPERATOR, check)
    assert now is not None
    assert now.done is not None
    assert (now.stage, now.done.outcome, now.delivery) == ("done", Outcome.ANSWERED, "sent")
    await house.read(check)
    now = house.core.board.check_view(OPERATOR, check)
    assert now is not None
    assert now.delivery == "read"
    assert house.core.board.check_view(OPERATOR, "ZZZZ") is None


async def test_a_snapshot_has_the_number_that_the_stream_goes_on_from(house: House) -> None:
    """No hole and nothing twice between the picture and the stream after it."""
    subscription = house.core.board.subscribe(OPERATOR)
    await house.ask()
    snapshot = house.core.board.snapshot(OPERATOR)
    assert snapshot.seq == house.core.bus.position(OPERATOR)
    assert [now.opened.check for now in snapshot.checks] == [house.newest()]
    del subscription


async def test_whoever_may_not_know_does_not_find_it_in_the_picture(house: House) -> None:
    """The snapshot is projected as the stream is: class, position, identity, emergency."""
    house.say(LocationFix(lat=52.5725, lon=-0.2431, fixed_at_ms=house.clock.wall_ms()))
    await house.ask("TE99ABC")
    await house.status(0)
    await settle()
    board = house.core.board
    full = board.snapshot(OPERATOR)
    mine = next(unit for unit in full.units if unit.meta.terminal == ISSI)
    assert mine.fix is not None
    assert mine.emergency
    assert mine.meta.callsign == "E-101"
    assert mine.contact_ms == house.clock.wall_ms()
    assert full.checks[0].done is not None
    assert full.checks[0].done.result_class == "HIT_STOLEN"
    blind = board.snapshot(viewer("identity"))
    mine = next(unit for unit in blind.units if unit.meta.terminal == ISSI)
    assert (mine.fix, mine.emergency, mine.meta.callsign) == (None, False, "")
    shown = msgspec.json.encode(board.snapshot(viewer()))
    for secret in (b"STOLEN", ISSI.encode(), b"E-101", b"52.57"):
        assert secret not in shown


async def test_never_the_subject(house: House) -> None:
    await house.ask("TE99STV")
    assert b"TE99" not in msgspec.json.encode(house.core.board.snapshot(OPERATOR))


async def test_silence_is_not_a_position(house: House) -> None:
    """Decision 11: a unit that was never heard has no fix, no contact time and no green band."""
    unit = next(u for u in house.core.board.snapshot(OPERATOR).units if u.meta.terminal == ISSI)
    assert (unit.fix, unit.contact_ms, unit.band) == (None, None, "none")


async def test_the_board_is_bounded_and_forgets_what_ended_first() -> None:
    """Open checks stay on it, however many came after them."""
    async with House(config(queue=400, per_terminal_open=400)) as house:
        house.pnc.hang()
        await house.ask()
        waiting = house.newest()
        for _ in range(CHECKS_KEPT + 20):
            await house.ask(issi="5001002")
            await house.read(house.newest(), issi="5001002")
        snapshot = house.core.board.snapshot(OPERATOR)
        assert len(snapshot.checks) == CHECKS_KEPT
        assert snapshot.checks[0].opened.check == waiting
        assert snapshot.checks[-1].opened.check == house.newest()


async def test_links_and_whether_all_of_a_kind_are_down(house: House) -> None:
    board, core = house.core.board, house.core
    assert not board.down("mqtt"), "none known is not down"
    core.link_seen("air", "mqtt", LinkState.DOWN, "cut")
    core.link_seen("more", "mqtt", LinkState.UP, "")
    assert not board.down("mqtt")
    core.link_seen("more", "mqtt", LinkState.DOWN, "cut")
    assert board.down("mqtt")
    assert [(link.id, link.state) for link in board.links()] == [
        ("air", LinkState.DOWN),
        ("more", LinkState.DOWN),
    ]


async def test_open_alarms_are_in_the_picture_until_they_are_closed(house: House) -> None:
    await house.status(0)
    await settle()
    board = house.core.board
    (alarm,) = board.snapshot(OPERATOR).alarms
    assert (alarm.rule, alarm.terminal) == ("EMG", ISSI)
    await board.acknowledge(alarm.id, Actor("op1"))
    await board.close_alarm(alarm.id, Actor("op2"))
    assert board.snapshot(OPERATOR).alarms == ()
    closed = [event for event in house.events if isinstance(event, AlarmChanged)][-1]
    assert (closed.state, closed.ack_by, closed.closed_by) == ("cleared", "op1", "op2")


async def test_counts_by_area(house: House) -> None:
    counts = house.core.board.snapshot(OPERATOR).counts
    assert sum(counts["on_duty"].values()) == len(house.config.fleet.terminals)
    assert set(counts["on_duty"]) <= set(house.config.areas.areas)


async def test_an_export_is_on_record_before_it_is_made(house: House) -> None:
    assert await house.core.board.record_export("complaint 1", Actor("auditor1")) == "gw1"
    record = house.on_record("export")[0]
    assert (record.operator, record.detail) == ("auditor1", "complaint 1")


async def test_a_look_at_what_a_receipt_proves_is_on_record_before_it(house: House) -> None:
    """With the ledger away nothing is read."""
    board, looked = house.core.board, list[str]()

    async def prove(receipt: str) -> bytes | None:
        looked.append(f"{receipt} after {len(house.on_record('export'))}")
        return b"{}"

    board.prove = prove
    assert await board.prove_receipt("4F2A-91KQ", "lawfulness", Actor("auditor1")) == b"{}"
    assert looked == ["4F2A-91KQ after 1"]
    record = house.on_record("export")[0]
    assert (record.operator, record.detail) == ("auditor1", "lawfulness: receipt 4F2A-91KQ")
    assert record.receipt == "", "it proves the check, and not who looked at it"
    house.ledger.down = True
    with pytest.raises(LedgerUnavailable):
        await board.prove_receipt("4F2A-91KQ", "lawfulness", Actor("auditor1"))
    assert len(looked) == 1


async def test_a_status_shows_and_a_link_event_replaces_the_last(house: House) -> None:
    house.say(StatusReport(code=6))
    await settle()
    metas = [e for e in house.events if isinstance(e, UnitMeta) and e.terminal == ISSI]
    assert metas[-1].status == "BSY"
    before = len([e for e in house.events if isinstance(e, LinkChanged)])
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    assert len([e for e in house.events if isinstance(e, LinkChanged)]) == before + 1


async def test_nothing_in_the_picture_goes_past_the_projection(house: House) -> None:
    """Units, positions, checks, alarms and links: what the stream would not show is not there."""
    house.core.link_seen("air", "mqtt", LinkState.UP, "")
    await house.status(0)
    await house.ask()
    full = house.core.board.snapshot(OPERATOR)
    assert full.units
    assert full.checks
    assert full.alarms
    assert full.links
    house.core.bus.project_by(lambda _viewer, _event: None)
    none = house.core.board.snapshot(OPERATOR)
    assert (none.units, none.checks, none.alarms, none.links) == ((), (), (), ())
