"""What memory forgets, and in which order."""

from __future__ import annotations

import msgspec

from gateway.check_memory import CheckMemory
from gateway.check_rows import Check
from gateway.check_states import CheckState, Stage
from gateway.messages import Asker, Kind

ASKER = Asker(
    issi="5001001",
    callsign="E-101",
    officer="1001",
    surname="TESTER",
    agency="police",
    role="constable",
    area="Eastern",
)


def check(name: str) -> Check:
    return Check(
        id=name,
        receipt="",
        asker=ASKER,
        holder="",
        request=None,
        kind=Kind.VEHICLE,
        opened_at_ms=0,
        accepted_at_s=0.0,
        deadline_ms=0,
        ref="",
        client_ref="",
        typed="",
        dedupe=f"id:{name}",
        state=CheckState(stage=Stage.OPENING, deadline_s=0.0),
    )


def end(memory: CheckMemory, each: Check) -> None:
    each.state = msgspec.structs.replace(each.state, stage=Stage.SEEN)
    assert memory.close(each, 0.0)


def test_open_checks_stay_and_ended_ones_go_in_the_order_of_their_end() -> None:
    memory = CheckMemory(settled=2, typed_repeat_s=60.0, since_s=0.0)
    old, *rest = (check(name) for name in "abcdef")
    for each in (old, *rest):
        memory.open(each, 0.0)
    for each in reversed(rest):
        end(memory, each)
    assert memory.find("a") is old
    assert [name for name in "bcdef" if memory.find(name)] == ["b", "c"]
    assert memory.same("id:d") is None
    end(memory, old)
    assert [name for name in "abc" if memory.find(name)] == ["a", "b"]


def test_one_that_is_opened_again_or_dropped_is_not_forgotten_in_its_old_turn() -> None:
    memory = CheckMemory(settled=1, typed_repeat_s=60.0, since_s=0.0)
    first, second, third = (check(name) for name in "abc")
    memory.know(first, 0.0)
    memory.open(first, 0.0)
    memory.know(second, 0.0)
    memory.drop(second)
    memory.know(third, 0.0)
    assert memory.find("a") is first
    assert memory.find("b") is None
    assert memory.find("c") is third
