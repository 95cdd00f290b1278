"""Officers on TETRA handsets: typed enquiries and pre-coded statuses over the air, end to end.

The radio at the gateway's port, its network and the handsets are simulated from the protocol
reference; the daemon between them is the real one.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import msgspec
import pytest

from gateway.app import made_factor
from simulators import tetra_air as air
from simulators.tetra_cell import NEAR, STILL, Air
from simulators.tetra_mobile import Mobile
from simulators.tetra_pei import MOTOROLA_LIKE, PLAIN, SEPURA_LIKE
from tests.system.cell import BOOK_OFF, BOOK_ON, FREE, STATUS, WITHIN_S, Cell, cell
from tests.system.daemon import ROOT, until
from tests.system.ledgers import audit
from tests.system.tetra_officer import TetraOfficer

EMERGENCY = air.EMERGENCY_REASON
E101, E103, N201, S302 = "5001001", "5001003", "5001005", "5001011"
PART_MOST = 73
"""Characters of one part at the default 668 bits."""


async def keyed(here: Cell, officer: TetraOfficer) -> None:
    """An answer with a danger word, one without, the same again, help, echo and cancel."""
    number = officer.ask("V TE99STV R1")
    parts = await officer.until(lambda: officer.parts(number), WITHIN_S)
    shown = officer.shown(number)
    assert len(shown) > 1
    assert all(len(each.text) <= PART_MOST for each in shown), [each.text for each in shown]
    assert parts[0]["text"].startswith("!!STOLEN !!VIOLENT OCCUPANT TE99STV")
    assert shown[0].pid == air.IMMEDIATE, "danger words show at once"
    assert shown[0].request == air.ASK_BOTH, "and it is told when they were read"
    await here.on_record("delivered", terminal=officer.issi)
    await here.on_record("read", terminal=officer.issi)

    number = officer.ask("N TESTER/NORA/01011970/F R6")
    await officer.until(lambda: officer.parts(number), WITHIN_S)
    (text,) = officer.shown(number)
    assert text.pid == air.TEXT
    assert "NO TRACE" in text.text
    assert "NOT PROOF OF ID" in text.text

    asked = len(here.pnc.queries)
    number = officer.ask("V TE99ABC R1")
    first = await officer.until(lambda: officer.parts(number), WITHIN_S)
    assert len(here.pnc.queries) == asked + 1
    since = len(officer.heard)
    officer.say(f"V TE99ABC R1 Q{number}")
    again = await officer.until(
        lambda: [h.body for h in officer.heard[since:] if h.channel == "result"][len(first) - 1 :],
        WITHIN_S,
    )
    assert again[0] == first[-1], "the stored answer, to its last word:"
    assert re.search(r" AS AT \d\d:\d\d$", again[0]["text"]), "how old it is"
    assert len(here.pnc.queries) == asked + 1, "no second query"

    since = len(officer.heard)
    officer.say("A")
    shown_again = await officer.until(
        lambda: [h.body for h in officer.heard[since:] if h.channel == "result"][len(first) - 1 :],
        WITHIN_S,
    )
    assert shown_again[0]["short"] == first[0]["short"], "the last answer, at a key"
    assert len(here.pnc.queries) == asked + 1

    officer.say("?")
    await here.told(officer, "V ")
    officer.say("E HELLO")
    await here.told(officer, "HELLO")
    here.pnc.fault = "hang"
    number = officer.ask("V TE99AAA R1")
    await officer.until(lambda: officer.receipt(number), WITHIN_S)
    officer.say(f"X Q{number}")
    (part,) = await officer.until(lambda: officer.parts(number), WITHIN_S)
    assert part["text"].startswith("XX"), part
    here.pnc.fault = None
    officer.say("V TE99 ABC")
    await here.told(officer, "XX R? GIVE REASON")


async def test_an_officer_types_and_reads(tmp_path: Path) -> None:
    """Statement 5 on a still air: parts that fit one message, immediate text for danger words,
    reports to the ledger, the stored answer for the same text; no overlap on the radio's line."""
    async with cell(tmp_path, habits=(MOTOROLA_LIKE,), issis=(N201, E101)) as here:
        officer = here.radio(N201)
        await keyed(here, officer)
        await here.settled()
        assert here.verdict() == []
        assert here.base.pei.counts["overlapping"] == 0
        assert officer.mobile.strange == 0
        assert not here.radio(E101).heard, "nothing for anybody else"


@pytest.mark.slow
async def test_the_same_text_is_a_new_check_when_its_time_is_over(tmp_path: Path) -> None:
    """Within typed_repeat_s of the outcome the stored answer; after that another question."""
    async with cell(tmp_path, issis=(N201,), checks={"typed_repeat_s": 2.0}) as here:
        officer = here.radio(N201)
        officer.say("V TE99AAA R1")
        first = await officer.until(lambda: _shorts(officer)[:1], WITHIN_S)
        officer.say("V TE99AAA R1")
        await officer.until(lambda: len(_shorts(officer)) >= 2, WITHIN_S)
        assert set(_shorts(officer)) == set(first)
        await asyncio.sleep(2.5)  # the time is the daemon's own
        officer.say("V TE99AAA R1")
        await officer.until(lambda: set(_shorts(officer)) - set(first), WITHIN_S)
        assert [each["attempt"] for each in here.queries()] == [1, 1]
        await here.settled()
        assert here.verdict() == []


async def test_the_control_room_asks_a_radio_where_it_is(tmp_path: Path) -> None:
    """By call-sign, on record, once: the radio hears the question, and its fix is on the
    screen. Its next report says emergency in nothing but its reason, and that is heard, too."""
    async with cell(tmp_path, issis=(N201,)) as here:
        officer = here.radio(N201)
        officer.fix(52_570_000, -243_000)
        await until(lambda: here.console.positions.get("N-201"), WITHIN_S)
        path = "/api/v1/units/{}/locate"
        status, said = await here.daemon.post(path.format("N-201"), {}, "k1")
        assert (status, set(said)) == (200, {"u", "t"})
        await officer.until(lambda: officer.located, WITHIN_S)
        officer.fix(52_570_900, -243_000)
        found = here.console.positions
        await until(lambda: abs(found["N-201"][-1][1] - 52_570_900) < 20, WITHIN_S)
        status, said = await here.daemon.post(path.format("N-201"), {}, "k1")
        assert status == 200, "the same again is the same act"
        here.base.transmit(int(N201), air.short_position(52.5709, -0.243, reason=EMERGENCY))
        officer.emergencies.append(time.monotonic())
        await here.on_record("emergency", terminal=N201)
        await until(lambda: "N-201" in here.console.emergencies, WITHIN_S)
        status, _ = await here.daemon.post(path.format("E-999"), {}, "k3")
        assert status == 404
        assert officer.located == 1
        record = await here.on_record("locate", terminal=N201)
        assert (record["operator"], record["verb"]) == ("op-1", "collection")
        assert here.verdict() == []


def sent_to(here: Cell, officer: TetraOfficer) -> list[dict[str, object]]:
    """Each time that the page was told of an answer handed to the air."""
    shorts = {
        leaf["check"] for leaf in audit(here.daemon.state) if leaf["terminal"] == officer.issi
    }
    told = here.console.of("check.delivery")
    return [each for each in told if each["id"] in shorts and each["state"] == "sent"]


def _shorts(officer: TetraOfficer) -> list[str]:
    return [h.body["short"] for h in officer.heard if h.channel == "result"]


@pytest.mark.slow
async def test_booked_prompted_and_acknowledged_by_status(tmp_path: Path) -> None:
    """On by text, off by status, on again by status and PIN; FREE TO SPEAK? answered by status; an
    answer that the handset does not report is acknowledged by status, too."""
    people = (ROOT / "config" / "people.toml").read_text("utf-8")
    people = people[: people.index("[[standing]]")]
    factor = made_factor("4711", 128)
    people = people.replace('collar = "1001"', f'collar = "1001"\nfactor = "{factor}"')
    (tmp_path / "people.toml").write_text(people, "utf-8")
    async with cell(
        tmp_path,
        habits=(SEPURA_LIKE,),
        issis=(N201,),
        ack=False,
        policy={"prompt = false": "prompt = true"},
    ) as here:
        officer = here.radio(N201)
        number = officer.ask("V TE99AAA R1")
        await officer.until(lambda: "NOT BOOKED" in str(officer.parts(number)), WITHIN_S)
        assert here.queries() == []
        officer.say("B 1001 4711")
        await here.told(officer, "BOOKED N-201 UNTIL")
        officer.status(BOOK_OFF)
        await here.told(officer, "BOOKED OFF")
        since = len(officer.heard)
        officer.status(BOOK_ON)
        await here.told(officer, "NOW PIN AND YOUR NUMBER")
        officer.say("PIN 4711")
        await here.told(officer, "BOOKED N-201 UNTIL", since=since)

        number = officer.ask("N TESTER/TED/12041986/M R1")
        asks = await here.told(officer, "FREE TO SPEAK? ACK 15")
        assert "!!WEAPONS" in asks, "danger words are not held back"
        assert not officer.parts(number)
        before = len(sent_to(here, officer))
        officer.status(FREE)
        parts = await officer.until(lambda: officer.parts(number), WITHIN_S)
        assert parts[0]["text"].startswith("!!WEAPONS !!VIOLENT !!WANTED")
        # Until the radio has said so of all parts, the newest that was sent is another one.
        await until(lambda: len(sent_to(here, officer)) > before, WITHIN_S)
        officer.status(FREE)
        await here.on_record("read", terminal=N201)
        await here.settled()
        assert here.verdict() == []
        assert "4711" not in here.daemon.output.read_text("utf-8")


# --------------------------------------------------------------------------- faults

WEATHER = Air(
    delay_s=(0.02, 0.2),
    lost=0.1,
    twice=0.1,
    overtakes=0.2,
    fails=0.05,
    mute=0.03,
    busy=0.1,
    full=0.05,
    unacked=0.05,
)
SUBJECTS = ("V TE99STV R1", "N TESTER/TED/12041986/M R1")


async def ask_all(officer: TetraOfficer, done: list[str]) -> None:
    """One question after the other, each when the one before is answered to its last part."""
    for text in SUBJECTS:
        number = officer.ask(text)
        await officer.until(lambda n=number: officer.parts(n), 2 * WITHIN_S)  # type: ignore[misc]
        done.append(number)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_bad_network_a_reboot_and_a_pulled_cable(tmp_path: Path) -> None:
    """Loss, duplicates, reordering, busy, full stack, no outcome; a reboot and a pulled cable while
    answers go out: each officer gets each answer, whole, once on record, and all four records
    agree."""
    async with cell(
        tmp_path,
        habits=(MOTOROLA_LIKE, SEPURA_LIKE),
        air=WEATHER,
        mobiles={E103: Mobile(short=True), S302: Mobile(asks=air.ASK_RECEIVED)},
        section={"air_s": 2.0, "keep_alive_s": 5.0},
        checks={"resend_s": 1.0},
    ) as here:
        motorola, sepura = here.bases
        for officer in here.officers:
            officer.resend_s = 1.0
        done: list[str] = []
        async with asyncio.TaskGroup() as officers:
            for officer in here.officers:
                officers.create_task(ask_all(officer, done))
            await until(lambda: motorola.pei.counts["accepted"] > 4, WITHIN_S)
            await until(lambda: motorola.pei.on_air, WITHIN_S)
            motorola.reboot()
            await until(lambda: sepura.pei.on_air, WITHIN_S)
            sepura.unplug()
            await here.up(sepura, "down")
            sepura.plug()
            await until(lambda: motorola.pei.counts["boots"] and motorola.pei.registered, WITHIN_S)
            here.radio(S302).emergency()
        assert len(done) == len(SUBJECTS) * len(here.officers)
        for base in here.bases:
            base.cell.air = STILL
        here.radio(S302).emergency(sure=True)
        here.radio(E101).fix(52_573_000, -241_000, sure=True)
        await here.on_record("emergency", terminal=S302)
        await until(lambda: here.console.positions.get("E-101"), WITHIN_S)
        await here.settled()
        assert here.verdict() == []
        assert {base.pei.counts["overlapping"] for base in here.bases} == {0}
        assert sum(base.cell.lost for base in here.bases) > 0
        assert [officer.mobile.strange for officer in here.officers] == [0] * 4


@pytest.mark.slow
async def test_killed_while_answers_go_out(tmp_path: Path) -> None:
    """A death in the middle of answers over a slow air: each officer gets each answer whole, and
    nothing was said before its record. A report on what the last life said proves nothing now."""
    async with cell(
        tmp_path,
        habits=(SEPURA_LIKE,),
        air=NEAR,
        issis=(N201, S302),
        checks={"resend_s": 2.0},
    ) as here:
        done: list[str] = []
        for officer in here.officers:
            officer.resend_s = 2.0
        async with asyncio.TaskGroup() as officers:
            for officer in here.officers:
                officers.create_task(ask_all(officer, done))
            await until(lambda: here.base.pei.counts["accepted"] >= 4, WITHIN_S)
            await until(lambda: here.base.pei.on_air, WITHIN_S)
            await here.daemon.kill()
            await here.daemon.start()
        assert len(done) == len(SUBJECTS) * len(here.officers)
        await here.settled()
        assert here.verdict() == []
        assert here.base.pei.counts["boots"] == 0, "no radio is reset to be set up"


@pytest.mark.slow
async def test_a_call_for_help_by_position_alone(tmp_path: Path) -> None:
    """LIP's reason 2 is an emergency, recorded and shown, and its place with it."""
    async with cell(tmp_path, habits=(SEPURA_LIKE,), issis=(N201,)) as here:
        radio = here.radio(N201)
        place = air.short_position(52.573, -0.241, reason=air.EMERGENCY_REASON)
        here.base.transmit(int(N201), place)
        radio.emergencies.append(0.0)
        await here.on_record("emergency", terminal=N201)
        await until(lambda: "N-201" in here.console.emergencies, WITHIN_S)
        await until(lambda: here.console.positions.get("N-201"), WITHIN_S)
        assert here.verdict() == []


MAKES = (
    msgspec.structs.replace(PLAIN, digits=15, payload="late", late_s=0.1),
    msgspec.structs.replace(PLAIN, digits=16, fields=7, payload="same", blank=""),
    msgspec.structs.replace(MOTOROLA_LIKE, digits=17, prompt=True),
    msgspec.structs.replace(SEPURA_LIKE, payload="late", late_s=0.1),
)


@pytest.mark.slow
async def test_every_way_in_which_makes_differ(tmp_path: Path) -> None:
    """Identities of 15, 16 and 17 digits and plain ones; the payload late, or on the same line; a
    prompt; odd digits: four radios, an officer behind each, danger reported as read by all."""
    async with cell(tmp_path, habits=MAKES) as here:
        for officer in here.officers:
            officer.ask("V TE99STV R1")
        for officer in here.officers:
            parts = await officer.until(lambda o=officer: o.parts("1"), WITHIN_S)  # type: ignore[misc]
            assert parts[0]["text"].startswith("!!STOLEN !!VIOLENT OCCUPANT TE99STV")
            await here.on_record("read", terminal=officer.issi)
            officer.fix(52_573_000, -241_000)
        for callsign in ("E-101", "E-103", "N-201", "S-302"):
            await until(lambda c=callsign: here.console.positions.get(c), WITHIN_S)  # type: ignore[misc]
        await here.settled()
        assert here.verdict() == []
        # Who calls is not said in a header of three or four fields: nobody is taken for another.
        for fields in (3, 4):
            here.base.pei.habits = msgspec.structs.replace(MAKES[0], fields=fields)
            here.radio(E101).status(STATUS + 4)
        here.base.pei.habits = MAKES[0]
        here.radio(E101).status(STATUS + 5)
        await until(lambda: "RTE" in str(here.console.of("unit.meta")[-1:]), WITHIN_S)
        assert "REF" not in str(here.console.of("unit.meta"))
