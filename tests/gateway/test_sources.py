"""The least-privileged source: who is asked, what is said when one of two is silent.

Tax, MOT and insurance alone never reach the PNC; of both asked at once each has its own as-of time,
and what a silent one would have said is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import sources
from gateway.errors import PncDown, PncError, PncGarbled, PncInvalid, PncUnauthorised
from gateway.messages import (
    Block,
    CheckDone,
    CheckRequest,
    LinkChanged,
    Outcome,
    PncAnswer,
    PncQuery,
    RegisterAnswer,
    Result,
    SourceSaid,
    StatusRecord,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
    search_key,
)
from gateway.settings import Config
from gateway.sources import Plan
from tests.fake_pnc import AS_OF_MS, REGISTER_AS_OF_MS
from tests.fakes import settle
from tests.gateway.house import ISSI, House, config

PARKING, FIRE, PRISON = "5001012", "5001009", "5001013"
"""Vehicles at L2 with their status; at L2 without it; no vehicles."""
UNTAXED = StatusRecord(vrm="TE99AAB", tax="N", mot="Y", insured="Y")


def from_register(base: Config | None = None) -> Config:
    """Every rule takes tax, MOT and insurance from the register."""
    base = base if base is not None else config()
    rules = tuple(
        msgspec.structs.replace(rule, status_from="register") for rule in base.policy.rules
    )
    policy = msgspec.structs.replace(base.policy, rules=rules)
    return msgspec.structs.replace(base, policy=policy)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """The rules as they are: the PNC's own copy, but for who asks for the status alone."""
    async with House(config(retries=0)) as house:
        yield house


@pytest.fixture
async def both() -> AsyncIterator[House]:
    async with House(from_register(config(retries=0))) as house:
        yield house


def only(house: House, issi: str = ISSI) -> Result:
    (result,) = house.heard(Result, issi)
    return result


def states(result: Result) -> dict[str, str]:
    return {each.source: each.state for each in result.sources}


def asked_of(house: House) -> list[str]:
    return [record.source for record in house.on_record("asked")]


# --------------------------------------------------------------------------- the status alone


@pytest.mark.parametrize(("issi", "reason"), [(ISSI, "1"), (PARKING, "8")])
async def test_a_status_is_of_the_register_alone(house: House, issi: str, reason: str) -> None:
    """No question to the PNC and no record of one; one record of the register."""
    await house.ask("TE99STV", issi=issi, reason=reason, scope="status")
    assert house.pnc.asked == []
    assert [query.vrm for query in house.register.asked] == ["TE99STV"]
    assert asked_of(house) == ["DVLA/MID"]
    assert house.on_record("combined") == []
    (disclosed,) = house.on_record("disclosed")
    assert disclosed.fields[0] == "vehicle_status"
    result = only(house, issi)
    assert result.outcome is Outcome.ANSWERED
    assert states(result) == {"DVLA": "asked", "MID": "asked", "PNC": "not_asked"}
    assert result.danger == ()
    assert "safety" not in result.fields
    text = "\n".join(result.pages)
    assert "POLICE: NOT ASKED" in text
    assert "TAX Y MOT Y INS Y" in text
    assert "DVLA 04:12 MID 04:12" in text
    assert text.endswith("DVLA")
    assert "NO REPORTS" not in text
    assert "NO TRACE" not in text


async def test_a_status_says_neither_clear_nor_stolen(house: House) -> None:
    """The vehicle is stolen; who asked for its tax alone is told nothing of that, either way."""
    house.register.records["TE99STV"] = UNTAXED
    await house.ask("TE99STV", issi=PARKING, reason="8", scope="status")
    told = msgspec.json.encode(only(house, PARKING)).decode()
    for word in ("STOLEN", "stolen", "SAFETY", "CLEAR", "INTEREST", "REPORTS"):
        assert word not in told, word
    done = [event for event in house.events if isinstance(event, CheckDone)]
    assert [event.result_class for event in done] == ["HIT_STATUS"]


async def test_a_vehicle_that_the_register_does_not_know(house: House) -> None:
    house.register.every = None
    await house.ask("TE99AAA", issi=PARKING, reason="8", scope="status")
    text = "\n".join(only(house, PARKING).pages)
    assert "TAX ? MOT ? INS ?" in text
    assert "NOT ON REGISTER" in text
    assert "NO TRACE" not in text


@pytest.mark.parametrize(("issi", "reason"), [(FIRE, "8"), (PRISON, "8")])
async def test_whose_rule_releases_no_status_may_not_ask_for_it(
    house: House, issi: str, reason: str
) -> None:
    await house.ask("TE99AAB", issi=issi, reason=reason, scope="status")
    assert only(house, issi).outcome is Outcome.REFUSED
    assert (house.pnc.asked, house.register.asked) == ([], [])


FAULTS: list[PncError] = [
    PncDown("x"),
    PncGarbled("echo"),
    PncGarbled("oversize"),
    PncInvalid("x"),
    PncUnauthorised("x"),
]


@settings(max_examples=30)
@given(
    level=st.sampled_from(["L1", "L2", "L3", "L4"]),
    fault=st.sampled_from([None, *FAULTS]),
    status_from=st.sampled_from(["pnc", "register"]),
    hold=st.booleans(),
    retries=st.integers(0, 2),
)
def test_whatever_the_policy_and_whatever_fails_a_status_never_reaches_the_pnc(
    level: str, fault: PncError | None, status_from: str, hold: bool, retries: int
) -> None:
    """Any rule that answers it, any fault of the register, and a restart in between."""
    base = config(retries=retries)
    rules = tuple(
        msgspec.structs.replace(rule, level=level, status_from=status_from, hold=hold)
        for rule in base.policy.rules
    )
    policy = msgspec.structs.replace(base.policy, rules=rules)

    async def play() -> None:
        async with House(msgspec.structs.replace(base, policy=policy)) as house:
            house.register.down = fault
            await house.ask("TE99STV", scope="status")
            await house.passes(3.0)
            await house.restart()
            await house.passes(20.0)
            assert house.pnc.asked == []
            assert set(asked_of(house)) <= {"DVLA/MID"}
            ends = house.on_record("answered") + house.on_record("refused")
            assert len(ends) == 1

    asyncio.run(play())


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (PncDown("x"), "DVLA LINK DOWN"),
        (PncGarbled("echo"), "DVLA ERROR"),
        (PncInvalid("x"), "DVLA: NOT VALID"),
    ],
)
async def test_a_register_that_fails_is_named(house: House, fault: PncError, why: str) -> None:
    """NO ANSWER, and not the PNC's fault."""
    house.register.down = fault
    await house.ask("TE99AAB", issi=PARKING, reason="8", scope="status")
    result = only(house, PARKING)
    assert result.outcome in {Outcome.FAILED, Outcome.REFUSED}
    assert why in "\n".join(result.pages)


async def test_its_circuit_is_its_own(house: House) -> None:
    """A register that is down opens its own circuit, and the PNC goes on; and the reverse."""
    house.register.down = PncDown("x")
    for _ in range(6):
        await house.ask("TE99AAB", scope="status")
    links = [event for event in house.events if isinstance(event, LinkChanged)]
    assert [(link.id, link.kind, link.state.value) for link in links] == [
        ("register", "register", "down")
    ]
    await house.ask("TE99AAB")
    assert house.results[-1].outcome is Outcome.ANSWERED
    house.register.down = None
    await house.passes(6.0)
    await house.ask("TE99AAB", scope="status")
    assert house.results[-1].outcome is Outcome.ANSWERED


async def test_a_pnc_that_hangs_holds_up_no_status() -> None:
    """The register has places of its own."""
    async with House(config(concurrency=1)) as house:
        house.pnc.hang()
        await house.ask("TE99AAB")
        await house.ask("TE99AAB", scope="status")
        assert [result.outcome for result in house.results] == [Outcome.ANSWERED]


async def test_a_status_of_before_the_restart_goes_on_at_the_register(house: House) -> None:
    house.register.waits = asyncio.get_running_loop().create_future()
    await house.ask("TE99AAB", scope="status")
    await house.restart()
    house.register.waits = None
    await house.passes(1.0)
    assert house.pnc.asked == []


async def test_the_same_mark_typed_for_its_tax_is_another_question(house: House) -> None:
    """Neither is answered with the other's answer."""
    tax = CheckRequest(
        key=VehicleKey(vrm="TE99AAB"), reason="1", typed="T TE99AAB R1", scope="status"
    )
    house.say(tax)
    await settle()
    house.say(house.typed())
    await settle()
    house.say(tax)
    await settle()
    assert (len(house.register.asked), len(house.pnc.asked)) == (1, 1)
    first, second, again = house.results
    assert states(first)["PNC"] == "not_asked"
    assert states(second)["PNC"] == "asked"
    assert again == first


async def test_a_json_question_for_the_status_is_another_one(house: House) -> None:
    whole = house.question()
    house.say(whole)
    house.say(msgspec.structs.replace(whole, scope="status"))
    await settle(60)
    assert (len(house.register.asked), len(house.pnc.asked)) == (1, 1)


async def test_without_a_register_nobody_asks_for_a_status() -> None:
    """And every other question is asked as before."""
    async with House(from_register(), has_register=False) as house:
        await house.ask("TE99AAB", scope="status")
        assert "NO REGISTER HERE" in "\n".join(house.results[-1].pages)
        await house.ask("TE99AAB")
        assert house.results[-1].outcome is Outcome.ANSWERED
        assert asked_of(house) == ["PNC"]


# --------------------------------------------------------------------------- both at once


async def test_both_are_asked_at_once_and_put_together_on_record(both: House) -> None:
    """The register's status in place of the PNC's copy; each with its own as-of time."""
    both.register.records["TE99AAB"] = UNTAXED
    await both.ask("TE99AAB")
    result = only(both)
    assert result.fields["tax"] == "N"
    assert {each.source: each.as_of_ms for each in result.sources} == {
        "PNC": AS_OF_MS,
        "DVLA": REGISTER_AS_OF_MS,
        "MID": REGISTER_AS_OF_MS,
    }
    assert "DVLA 04:12 MID 04:12" in "\n".join(result.pages)
    assert asked_of(both) == ["PNC", "DVLA/MID"]
    (combined,) = both.on_record("combined")
    assert combined.source == "PNC, DVLA/MID"
    assert combined.verb == "combination"


async def test_who_gets_no_status_has_the_register_left_alone(both: House) -> None:
    await both.ask("TE99AAB", issi=FIRE, reason="8")
    assert both.register.asked == []
    assert asked_of(both) == ["PNC"]


@pytest.mark.parametrize("fault", [f for f in FAULTS if not isinstance(f, PncInvalid)])
@pytest.mark.parametrize(("issi", "reason"), [(ISSI, "1"), (PARKING, "8")])
async def test_without_the_pnc_the_rest_is_told_and_nothing_reads_clear(
    both: House, fault: PncError, issi: str, reason: str
) -> None:
    """PARTIAL at every level; what the police hold is unknown: never "not stolen"."""
    both.pnc.always = fault
    await both.ask("TE99STV", issi=issi, reason=reason)
    result = only(both, issi)
    assert result.outcome is Outcome.ANSWERED
    assert states(result) == {"PNC": "unavailable", "DVLA": "asked", "MID": "asked"}
    assert result.not_checked == ("PNC",)
    text = "\n".join(result.pages)
    assert "??PART NOT CHECKED" in text
    assert "PNC: NO REPLY" in text
    assert "TAX Y MOT Y INS Y" in text
    for lie in ("NO REPORTS", "NO TRACE", "CLEAR", "STOLEN N"):
        assert lie not in text, lie
    if issi == PARKING:
        assert result.fields["stolen"] == "?"
        assert result.fields["interest"] == "?"
        assert result.fields["safety"] == "CAUTION"
        assert result.danger == ("CAUTION",)
    else:
        assert result.result_class == "PARTIAL"
        assert "TREAT AS UNKNOWN" in text
    (done,) = [event for event in both.events if isinstance(event, CheckDone)]
    assert done.result_class == "PARTIAL"
    assert both.on_record("combined") == []


async def test_no_tax_is_not_all_is_well(both: House) -> None:
    """The register's finding does not stand where the police's is missing."""
    both.register.records["TE99STV"] = UNTAXED
    both.pnc.always = PncDown("x")
    await both.ask("TE99STV")
    assert only(both).result_class == "PARTIAL"
    assert "NO TAX" in "\n".join(only(both).pages)


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_the_register_its_part_is_unknown(both: House, fault: PncError) -> None:
    """Never N, and never the PNC's older copy; the police part stands."""
    both.register.down = fault
    await both.ask("TE99AAB")
    await both.passes(1.0)
    result = only(both)
    assert result.result_class == "PARTIAL"
    assert states(result) == {"PNC": "asked", "DVLA": "unavailable", "MID": "unavailable"}
    assert (result.fields["tax"], result.fields["mot"], result.fields["ins"]) == ("?", "?", "?")
    text = "\n".join(result.pages)
    assert "TE99AAB NO REPORTS" in text
    assert "NO TAX" not in text


async def test_danger_words_wait_for_no_tax_disc(both: House) -> None:
    """A register that hangs holds the PNC's answer up for a second, and no longer."""
    both.register.waits = asyncio.get_running_loop().create_future()
    await both.ask("TE99STV")
    await both.passes(0.9)
    assert both.results == []
    await both.passes(0.2)
    assert only(both).danger[0] == "STOLEN"
    assert states(only(both))["MID"] == "unavailable"


async def test_a_pnc_that_hangs_ends_in_what_there_is(both: House) -> None:
    """Half a second before the deadline, so that it is told by then."""
    hang = both.pnc.hang()
    await both.ask("TE99AAB")
    await both.passes(14.4)
    assert both.results == []
    await both.passes(0.2)
    assert only(both).not_checked == ("PNC",)
    assert only(both).outcome is Outcome.ANSWERED
    hang.answer()
    await settle()
    assert len(both.on_record("late_answer")) == 1
    assert [notice.kind for notice in both.notices] == ["late"]
    assert len(both.results) == 1


async def test_when_both_hang_the_deadline_ends_it(both: House) -> None:
    both.pnc.hang()
    both.register.waits = asyncio.get_running_loop().create_future()
    await both.ask("TE99AAB")
    await both.passes(15.1)
    assert only(both).outcome is Outcome.EXPIRED


async def test_a_pnc_that_is_asked_again_leaves_the_register_alone() -> None:
    """What it said to the first attempt is enough."""
    async with House(from_register(config(retries=2))) as house:
        house.pnc.script.extend([PncDown("x"), PncDown("x")])
        await house.ask("TE99AAB")
        await house.passes(2.0)
        assert only(house).result_class == "TRACE_CLEAR"
        assert len(house.pnc.asked) == 3
        assert len(house.register.asked) == 1


async def test_a_pnc_known_to_be_down_is_not_asked_and_the_register_is(both: House) -> None:
    """Its circuit is open: no record of a question that was not made."""
    both.pnc.always = PncDown("x")
    for _ in range(5):
        await both.ask("TE99AAB")
    before = len(both.pnc.asked)
    await both.ask("TE99STV")
    assert len(both.pnc.asked) == before
    check = both.newest()
    assert [record.source for record in both.on_record("asked", check)] == ["DVLA/MID"]
    result = both.results[-1]
    assert states(result) == {"PNC": "unavailable", "DVLA": "asked", "MID": "asked"}
    assert result.result_class == "PARTIAL"
    assert "??PART NOT CHECKED" in "\n".join(result.pages)


async def test_a_swapped_reply_is_on_record_though_the_rest_is_told(both: House) -> None:
    both.pnc.always = PncGarbled("echo")
    await both.ask("TE99AAB")
    assert [record.detail for record in both.on_record("security")] == [
        "reply to another question, shown to nobody"
    ]


async def test_a_defect_beside_the_pnc_costs_only_its_part(both: House) -> None:
    both.register.down = ZeroDivisionError()
    await both.ask("TE99STV")
    await both.passes(1.0)
    assert only(both).danger[0] == "STOLEN"
    assert states(only(both))["DVLA"] == "unavailable"


# --------------------------------------------------------------------------- pure


QUERY = PncQuery(
    check="C1",
    attempt=1,
    key=VehicleKey(vrm="TE99AAB"),
    key_text=search_key(VehicleKey(vrm="TE99AAB")),
    reason="1",
    justification="",
    originator="",
    location="",
    on_behalf_of="",
    asked_at_ms=1000,
    deadline_s=15.0,
)
YES_NO = st.sampled_from(["Y", "N", ""])
STATES = st.sampled_from(["OK", "STALE", "UNAVAILABLE", "unavailable"])


@st.composite
def statuses(draw: st.DrawFn) -> RegisterAnswer:
    """Whatever a register may say, consistent or not."""
    record = StatusRecord(
        vrm="TE99AAB",
        tax=draw(YES_NO),
        mot=draw(YES_NO),
        insured=draw(YES_NO),
        sorn=draw(st.booleans()),
    )
    return RegisterAnswer(
        check="C1",
        attempt=1,
        key_text="VRM:TE99AAB",
        record=draw(st.sampled_from([None, record])),
        blocks=(Block("DVLA", 500, draw(STATES)), Block("MID", 700, draw(STATES))),
        as_of_ms=900,
    )


@given(statuses(), st.booleans())
def test_what_a_silent_source_would_have_said_is_never_a_no(
    status: RegisterAnswer, with_pnc: bool
) -> None:
    """Whatever stands in its record; and every block keeps its own as-of time."""
    police = PncAnswer(
        check="C1",
        attempt=1,
        key_text="VRM:TE99AAB",
        records=(
            VehicleRecord(
                vrm="TE99AAB", tax="N", mot="N", insured="N", reports=(VehicleReport("LOS"),)
            ),
        ),
        blocks=(Block("PNC", 800), Block("DVLA", 100), Block("INSURANCE", 800)),
        as_of_ms=800,
    )
    answer = (
        sources.together(police, status, now_ms=1000)
        if with_pnc
        else sources.police_lost(sources.alone(QUERY, status))
    )
    silent = {each.source for each in status.blocks if each.state.upper() == "UNAVAILABLE"}
    for record in answer.records:
        assert isinstance(record, VehicleRecord)
        assert "DVLA" not in silent or (record.tax, record.mot, record.sorn) == ("", "", False)
        assert "MID" not in silent or record.insured == ""
        assert bool(record.reports) is with_pnc
    times = {each.source: each.as_of_ms for each in answer.blocks}
    assert times == {"PNC": 800 if with_pnc else 900, "DVLA": 500, "MID": 700}


def test_the_plan() -> None:
    """By mark, where the rule says so and releases a status; the status alone always."""
    mark = CheckRequest(key=VehicleKey(vrm="TE99AAB"), reason="1")
    chassis = CheckRequest(key=VehicleKey(vin="00000001"), reason="1")
    status = msgspec.structs.replace(mark, scope="status")
    groups = ("vehicle_status",)
    assert sources.plan(mark, groups, "register", register=True) == Plan(register=True)
    assert sources.plan(mark, groups, "register", register=False) == Plan()
    assert sources.plan(mark, groups, "pnc", register=True) == Plan()
    assert sources.plan(mark, ("trace",), "register", register=True) == Plan()
    assert sources.plan(chassis, groups, "register", register=True) == Plan()
    for register in (True, False):
        alone = sources.plan(status, groups, "pnc", register=register)
        assert alone == Plan(pnc=False, register=True)


@pytest.mark.parametrize("level", ["L1", "L2"])
def test_below_l3_no_source_tells_how_long_it_took(level: str) -> None:
    """As of the question at the latest; at L1 not even which of them was silent."""
    answer = PncAnswer(
        check="C1",
        attempt=1,
        key_text="k",
        records=(),
        blocks=(Block("PNC", 5000), Block("DVLA", 100), Block("WARNINGS", 5000, "UNAVAILABLE")),
        as_of_ms=5000,
    )
    told = sources.said(
        answer, vehicle=True, level=level, groups=("vehicle_status",), opened_at_ms=4000
    )
    if level == "L1":
        assert told == (SourceSaid("PNC", "asked", 4000),)
    else:
        assert told == (
            SourceSaid("PNC", "asked", 4000),
            SourceSaid("DVLA", "asked", 100),
            SourceSaid("MID", "not_asked", 0),
        )


async def test_what_the_pnc_said_of_itself_is_named_too(house: House) -> None:
    """A question to the PNC alone says that nobody asked the register."""
    await house.ask("TE99AAB")
    assert states(only(house)) == {"PNC": "asked", "DVLA": "not_asked", "MID": "not_asked"}
