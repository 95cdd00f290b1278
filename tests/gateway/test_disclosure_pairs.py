"""Below L3 what must not be told apart is the same bytes at the same moments (exact, virtual time).

Two worlds ask the same questions at the same moments and differ in one thing: what the PNC has on
record, one way in the first and, at random, the one or the other way in the second; the PNC takes
longer for the one. Whoever sees all that the terminals are sent, and when, and for how long a
broker keeps it, sees no difference. An answer that is late by so little that it misses a slot
which it else would have made is still seen to be late: that is not tried here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import msgspec
import pytest

from adapters.codecs.line_terminal import LineTerminal
from adapters.codecs.terminal_json import TerminalJson
from gateway.messages import (
    AckState,
    Block,
    Circulation,
    DeliveryAck,
    Disqualification,
    DriverKey,
    DriverRecord,
    Issi,
    Key,
    Level,
    PersonKey,
    PersonRecord,
    PncAnswer,
    PncQuery,
    PncRecord,
    Result,
    VehicleKey,
    VehicleRecord,
)
from gateway.ports import Also, nothing_more
from gateway.settings import SlotsSection
from tests.fake_pnc import FakePnc
from tests.fakes import FakeClock, settle
from tests.gateway.house import House, config
from tests.gateway.strategies import BLOCK, COVERT, person, signals

ANSWERS = 225
"""Of each pair, in each world: of all below L3, 2,025."""
TRACE_S = 0.08
"""So much longer the PNC takes for the second of a pair."""
COUNCIL, FIRE, PRISON = "5001008", "5001009", "5001013"
PCSO, PARKING, CONSTABLE, SERGEANT = "5001004", "5001012", "5001001", "5001002"

NORA = PersonKey(surname="TESTER", forenames="NORA", dob="1970-01-01")
MARK = VehicleKey(vrm="TE99AAB")
DRIVER = DriverKey(surname="TESTER", forenames="NORA", dob="1970-01-01")
CAR = VehicleRecord(vrm="TE99AAB", make="FORD", tax="Y", mot="Y", insured="Y", keeper="N TESTER")
LICENCE = DriverRecord(
    driver_no="TESTE701010N99AA", surname="TESTER", forenames="NORA", dob="1970-01-01"
)

Records = tuple[PncRecord, ...]


class Pair(msgspec.Struct, frozen=True):
    """What is on record in the one case and in the other; who asks, as what, for which reason."""

    key: Key
    left: Records
    right: Records
    askers: tuple[Issi, ...]
    reason: str = "8"
    level: Level = Level.L1


def _person(**more: object) -> Records:
    found: PersonRecord = person(**more)
    return (found,)


TIERS = (COUNCIL, FIRE, PRISON)
PAIRS = {
    "no trace, trace clear": Pair(NORA, (), _person(), TIERS),
    "no trace, much on record": Pair(
        NORA, (), _person(markers=("DRUGS", "THEFT"), offences=("THEFT 2019",)), TIERS
    ),
    "violent, wanted": Pair(
        NORA,
        _person(warnings=signals("VI")),
        _person(circulations=(Circulation(kind="WANTED_ARREST", owner="35NB"),)),
        TIERS,
    ),
    "missing, suicidal": Pair(
        NORA,
        _person(circulations=(Circulation(kind="MISSING", owner="35NB"),)),
        _person(warnings=signals("SU")),
        TIERS,
    ),
    "firearms, explosives": Pair(
        NORA, _person(warnings=signals("FI")), _person(warnings=signals("EX")), TIERS
    ),
    "clear, covert": Pair(NORA, _person(), _person(circulations=(COVERT,)), TIERS),
    "vehicle clear, BLOCK": Pair(
        MARK,
        (CAR,),
        (msgspec.structs.replace(CAR, reports=(BLOCK,)),),
        (COUNCIL, PARKING),
        level=Level.L2,
    ),
    "vehicle for fire: no trace, trace": Pair(MARK, (), (CAR,), (FIRE,), level=Level.L2),
    "not disqualified: no trace, trace": Pair(
        DRIVER, (), (LICENCE,), (PCSO,), reason="1", level=Level.L2
    ),
}
IN_FULL = {
    "person clear, covert": Pair(
        NORA, _person(), _person(circulations=(COVERT,)), (CONSTABLE, SERGEANT, PCSO), reason="1"
    ),
    "vehicle clear, BLOCK": Pair(
        MARK,
        (CAR,),
        (msgspec.structs.replace(CAR, reports=(BLOCK,)),),
        (CONSTABLE, SERGEANT, PCSO),
        reason="1",
    ),
}
TOLD_APART = Pair(
    DRIVER,
    (LICENCE,),
    (msgspec.structs.replace(LICENCE, disqualification=Disqualification(until="2030-01-01")),),
    (PCSO,),
    reason="1",
    level=Level.L2,
)
"""What L2 grants: to be told apart, else this test sees nothing."""


class TwoSided(FakePnc):
    """Answers its n-th question with the side that `sides[n]` says, in a time of its own."""

    def __init__(self, clock: FakeClock, pair: Pair, sides: Sequence[int], seed: int) -> None:
        super().__init__()
        self._clock, self._pair, self._sides = clock, pair, sides
        chance = random.Random(seed)
        # At once, slowly, and past the deadline.
        spans = chance.choices(
            ((0.0, 3.8), (4.1, 8.8), (9.1, 14.8), (15.1, 20.0)), (8, 2, 1, 1), k=len(sides)
        )
        self.silent = frozenset({"PNC"})  # what did not come in time does not follow, either
        self._took_s = [chance.uniform(*span) for span in spans]

    async def query(self, query: PncQuery, also: Also = nothing_more) -> PncAnswer:
        del also
        number = len(self.asked)
        self.asked.append(query)
        side = self._sides[number]
        await self._clock.sleep(self._took_s[number] + side * TRACE_S)
        now_ms = self._clock.wall_ms()
        return PncAnswer(
            check=query.check,
            attempt=query.attempt,
            key_text=query.key_text,
            records=self._pair.right if side else self._pair.left,
            blocks=(Block(source="PNC", as_of_ms=now_ms),),
            as_of_ms=now_ms,
        )


class Heard(msgspec.Struct, frozen=True):
    """All that can be seen of one message on the air."""

    at_s: float
    terminal: Issi
    json: tuple[bytes, ...]
    line: tuple[bytes, ...]
    expires_in_s: float


async def heard_in(
    pair: Pair, sides: Sequence[int], *, slots_s: tuple[float, ...] = (4.0, 9.0), seed: int = 7
) -> list[Heard]:
    """Everything that the terminals of a world are sent."""
    base = config(per_terminal_open=64, concurrency=64)
    settings = msgspec.structs.replace(base.settings, slots=SlotsSection(below_l3_s=slots_s))
    house = House(msgspec.structs.replace(base, settings=settings))
    house.pnc = TwoSided(house.clock, pair, sides, seed)
    chance = random.Random(seed)
    found: list[Heard] = []

    def took(terminal: Issi, message: object) -> None:
        sent = house.link.sent[-1]
        assert sent.message is message
        found.append(
            Heard(
                at_s=round(house.clock.monotonic_s(), 6),
                terminal=terminal,
                json=tuple(frame.data for frame in TerminalJson().encode(sent.message)),
                line=tuple(frame.data for frame in LineTerminal().encode(sent.message)),
                expires_in_s=round(sent.expires_in_s, 6),
            )
        )

    read = 0
    async with house:
        house.link.took = took
        for number in range(len(sides) + 20):
            if number < len(sides):
                question = house.question(reason=pair.reason)
                asker = chance.choice(pair.askers)
                house.say(msgspec.structs.replace(question, key=pair.key), issi=asker)
            await house.passes(chance.uniform(0.1, 2.0))
            # Most are read; what is not comes again.
            for sent in house.link.sent[read:]:
                if isinstance(sent.message, Result) and int(sent.message.check[-3:], 16) % 5:
                    ack = DeliveryAck(check=sent.message.check, part=0, state=AckState.READ)
                    house.say(ack, issi=sent.terminal)
            read = len(house.link.sent)
            await settle()
        assert len(house.pnc.asked) == len(sides)
        levels = {r.level for r in house.on_record("disclosed")}
        assert len(house.on_record("disclosed")) > len(sides) // 2
        assert levels <= {pair.level.value} or pair in IN_FULL.values()
    return found


def mixed(seed: int = 11, answers: int = ANSWERS) -> list[int]:
    """The first are the other side: what they set going for all that follow would show."""
    chance = random.Random(seed)
    return [1] * 10 + [chance.randrange(2) for _ in range(answers - 10)]


LEFT = [0] * ANSWERS


@pytest.mark.parametrize("name", PAIRS)
async def test_below_l3_a_pair_is_the_same_bytes_at_the_same_moments(name: str) -> None:
    """Receipts, answers, failures, what comes again, and what is not said."""
    one, other = await heard_in(PAIRS[name], LEFT), await heard_in(PAIRS[name], mixed())
    assert one == other


@pytest.mark.slow
async def test_two_thousand_answers_of_one_pair_are_the_same() -> None:
    """A thousand in each world, over a day: what adds up slowly would show here."""
    pair = PAIRS["no trace, trace clear"]
    one = await heard_in(pair, [0] * 1000)
    assert one == await heard_in(pair, mixed(answers=1000))


@pytest.mark.parametrize("name", IN_FULL)
async def test_at_l3_covert_records_are_the_same_bytes(name: str) -> None:
    """Not the same moments: there an answer comes when it is there."""
    pair = IN_FULL[name]
    sides = mixed()
    one, other = await heard_in(pair, LEFT), await heard_in(pair, sides)
    assert _texts(one) == _texts(other)


def _texts(heard: list[Heard]) -> list[str]:
    """Without times, in no order, and not how often."""
    said = [str((each.terminal, each.json, each.line)) for each in heard]
    return sorted({re.sub(r"[0-9T:.-]+Z|[0-9]{2}:[0-9]{2}", "AT", text) for text in said})


@pytest.mark.parametrize("name", ["no trace, trace clear", "clear, covert"])
async def test_without_slots_it_tells(name: str) -> None:
    """This test can see: what the PNC took longer for is told apart by when it comes."""
    one = await heard_in(PAIRS[name], LEFT, slots_s=())
    other = await heard_in(PAIRS[name], mixed(), slots_s=())
    assert [each.at_s for each in one] != [each.at_s for each in other]


async def test_what_l2_grants_is_told_apart() -> None:
    """This test can read: a flag that the role may see is another byte."""
    one, other = await heard_in(TOLD_APART, LEFT), await heard_in(TOLD_APART, mixed())
    assert [each.at_s for each in one] == [each.at_s for each in other]
    assert [each.json for each in one] != [each.json for each in other]
