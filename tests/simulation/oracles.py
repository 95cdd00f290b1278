"""The invariants, checked by joining what each party saw (reliability-security reference, 4):
terminals, the PNC, the disk's records, consoles.

Those that take part of a moment are called at that moment (World.judge); `joined` after the heal.
Each raises AssertionError with the invariant's number.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from gateway.check_memory import dedupe_key
from gateway.check_states import BEFORE_OUTCOME, Cause
from gateway.checks import TASKS_PER_CHECK
from gateway.delivery import TELL_MOST, WAITING_MOST
from gateway.early_cancels import WINDOW_S
from gateway.messages import (
    AlarmChanged,
    CheckRequest,
    Event,
    Issi,
    LinkState,
    LocationFix,
    Notice,
    Outcome,
    PncQuery,
    RegisterQuery,
    Result,
    UnitEmergency,
    UnitFix,
    VehicleKey,
)
from gateway.policy import may_ask
from gateway.ports import CheckRow, Record
from gateway.roster import Roster
from gateway.trials import TRIALS_MOST, Trial, trial_id
from tests.fakes import FakeKeyed

if TYPE_CHECKING:
    from tests.simulation.world import World

ENDINGS = {"answered", "refused", "denied", "cancelled"}
HEARD_WITHIN_S = 1.0
TRANSPORT_S = 0.5
SLACK_MS = 1
"""Rounding of wall clock and virtual time."""
TURNS_S = 0.01
"""What was decided has happened by then."""
SECRETS = ("STOLEN", "VIOLENT", "NO TRACE", "TE99", "FORD")
"""What an answer may say and a late notice may not."""


# --------------------------------------------------------------------------- at the moment


def question_allowed(world: World, query: PncQuery) -> None:
    """I6, I8, I16, I21: on record before it is asked, with this attempt; never one that policy
    refuses; never after an outcome; each attempt once."""
    noted = _noted(world, query.check, "PNC")
    assert query.attempt in {record.attempt for record in noted}, "I6: asked without a record"
    assert not _of_status(world, query.check), "a status reached the PNC"
    assert query.reason in world.base.policy.reasons, "I8: a refused question was asked"
    row = world.disk.checks[query.check]
    assert row.outcome == "", "I21: asked after the outcome"
    _still_wanted(world, row)
    _not_taken_back(world, row)
    same = [q for q in world.asked if (q.check, q.attempt) == (query.check, query.attempt)]
    assert len(same) == 1, "I6: one attempt asked twice"
    assert query.attempt <= 3, "more than two retries"


def register_allowed(world: World, query: RegisterQuery) -> None:
    """As `question_allowed`, of the vehicle register, under its own name on record."""
    noted = _noted(world, query.check, "DVLA/MID")
    assert query.attempt in {record.attempt for record in noted}, "I6: asked without a record"
    row = world.disk.checks[query.check]
    assert row.outcome == "", "I21: asked after the outcome"
    _still_wanted(world, row)
    _not_taken_back(world, row)
    same = [q for q in world.registered if (q.check, q.attempt) == (query.check, query.attempt)]
    assert len(same) == 1, "I6: one attempt asked twice"


def _noted(world: World, check: str, source: str) -> list[Record]:
    records = world.disk.by_check[check]
    return [each for each in records if each.event == "asked" and each.source == source]


def _of_status(world: World, check: str) -> bool:
    request = json.loads(world.disk.checks[check].state)["request"] or {}
    return request.get("scope", "") == "status"


def _still_wanted(world: World, row: CheckRow) -> None:
    """M14, H03, P01: nothing is asked after its deadline, nor what was already too old when it
    came. (When our wall clock is set, or a terminal's is wrong, ages cannot be told from here; and
    a process that is stopped between its decision and the question asks when it goes on.)"""
    if world.faults.wall_step or world.loop.now_s - world.still_until_s < TURNS_S:
        return
    deadline_ms = world.config.settings.checks.deadline_s * 1000
    late_ms = world.clock.wall_ms() - row.opened_at_ms - deadline_ms
    assert late_ms <= SLACK_MS, f"P01: asked {late_ms:.0f} ms after its deadline"
    said = world.terminals[row.terminal].said.get(json.loads(row.state)["ref"])
    if said is not None and not world.faults.clock_skew:
        # What was twice as late before may have been taken for the lag of the terminal's clock.
        lag_ms = 1000 * sorted(world.terminals[row.terminal].delays_s)[-2]
        late_ms = row.opened_at_ms - said.true_ms - deadline_ms - lag_ms
        assert late_ms <= SLACK_MS, f"M14: asked, though {late_ms} ms too old on receipt"


def _not_taken_back(world: World, row: CheckRow) -> None:
    """M05: what its officer took back by name is not asked, whichever of the two came first."""
    ref = json.loads(row.state)["ref"]
    back = world.taken_back.get((row.terminal, ref))
    if back is None or back.life != world.life or back.officer is None:
        return
    late_s = world.terminals[row.terminal].in_hand_since_s(ref) - back.at_s
    if late_s <= WINDOW_S - TURNS_S and back.officer == world.disk.opened(row.id).officer:
        raise AssertionError("M05: asked, though it was taken back")


def sending_allowed(world: World, terminal: Issi, result: Result | Notice) -> None:
    """Decision 13, I18: to the officer who asked and still holds the terminal. A prompt, too: it
    has danger words."""
    opened = world.disk.opened(result.check)
    config = world.config
    known = any(t.issi == terminal for t in config.fleet.terminals)
    assert known, "I18: to a terminal that was taken away"
    now = next((s.officer for s in config.people.standing if s.terminal == terminal), "")
    assert now == opened.officer, "decision 13: to the next holder"


def message_allowed(world: World, terminal: Issi, notice: Notice) -> None:
    """What the control room wrote is on record, word for word, and goes to who held the radio then
    and holds it still."""
    said = [r for r in world.disk.records if r.event == "message" and r.detail == notice.id]
    assert len(said) == 1, f"a message with {len(said)} records"
    (record,) = said
    assert record.terminal == terminal, "another's message"
    assert record.content is not None
    assert notice.text == f"MSG: {json.loads(record.content)['text']}", "other words than recorded"
    now = next((s.officer for s in world.config.people.standing if s.terminal == terminal), "")
    assert now == record.officer, "a message to the next holder"
    ends = [r.event for r in world.disk.records if r.detail == notice.id and r.event != "message"]
    assert not {"read", "stale"} & set(ends), "sent though it was over"


def prompt_allowed(world: World, terminal: Issi, asked: Notice) -> None:
    """I5, I22: FREE TO SPEAK? holds all danger words, and they are on record before it is said."""
    records = world.disk.by_check.get(asked.check, [])
    told = [each for each in records if each.event == "disclosed"]
    assert told, "I5: prompted before that was on record"
    assert told[0].content == msgspec.json.encode(asked), "I5: prompted in other words"
    assert told[0].terminal == terminal, "I3: another's prompt"
    mark = _key(world.disk.opened(asked.check))
    if mark in ("TE99ABC", "TE99STV"):
        assert "STOLEN" in asked.text, "I22: danger behind the prompt"
        assert asked.danger, "I22: danger behind the prompt"


def result_allowed(world: World, terminal: Issi, result: Result) -> None:
    """I3, I5: to the one who asked, and only after outcome and disclosure are on record."""
    records = world.disk.by_check.get(result.check, [])
    assert records, "I5: a result without any record"
    assert {record.terminal for record in records} == {terminal}, "I3: another's result"
    ended = [record for record in records if record.event in ENDINGS]
    assert ended, "I5: an outcome that is not on record"
    assert ended[0].outcome == result.outcome, "I2: told otherwise than recorded"
    if result.outcome is Outcome.ANSWERED:
        told = [record for record in records if record.event == "disclosed"]
        prompted = [record for record in told if record.detail == "with the prompt"]
        assert len(told) > len(prompted), "I5: shown before the disclosure was on record"
        asked = json.loads(world.disk.checks[result.check].state)["state"]["prompt"]
        assert len(prompted) == int(asked), "I5: the first phase is not on record once"
        withheld = any(record.event == "withheld" for record in records)
        assert not withheld, "shown, though an operator refused it"
        held = json.loads(world.disk.checks[result.check].state)["state"]["hold"]
        released = [each for each in records if each.event in ("released", "amended")]
        assert len(released) == int(held), "shown, though no operator released it"
        assert told[0].recipient, "I5: a disclosure without a recipient"
        assert told[0].level == result.level, "I5: disclosed at another level than recorded"


def _put_away(world: World, terminal: Issi, request: CheckRequest) -> bool:
    """M13: enough lives ended with it, and its failure is on record, without a word of it."""
    row = world.disk.checks.get(trial_id(dedupe_key(FakeKeyed(), terminal, request, 0)))
    if row is None or row.state is None:
        return False
    lives = msgspec.json.decode(row.state, type=Trial).lives
    failed = any(
        record.event == "answered" and record.detail == Cause.FAULT and record.terminal == terminal
        for record in world.disk.records
    )
    return lives >= TRIALS_MOST and failed


def acknowledgement_allowed(
    world: World, terminal: Issi, request: CheckRequest, since_s: float
) -> None:
    """Decision 3: the bearer may forget a question that is on record, that the disk refused, or
    whose officer was told, at the deadline or of a disk that hangs, that it cannot be recorded."""
    told = world.loop.now_s - since_s >= world.config.settings.checks.deadline_s + 0.99
    told = told or world.disk_waits_s() >= world.config.settings.ledger.stall_s - 0.01
    gone = not any(each.issi == terminal for each in world.config.fleet.terminals)
    if request.sent_at_ms is None:
        mark = request.typed.split()[1]
        known = any(_key(record) == mark for record in _asked_by(world, terminal))
        known = known or _put_away(world, terminal, request)
        assert known or told or gone or world.refused, "decision 3: acknowledged before the commit"
        return
    if request.ref in world.terminals[terminal].poison:
        made = any(r.event == "answered" for r in world.disk.records if r.terminal == terminal)
        excused = told or gone or world.faults.disk_full
        assert made or excused, "M13: poison acknowledged before its failure was on record"
        return
    key = dedupe_key(FakeKeyed(), terminal, request, 0)
    known = any(row.dedupe == key for row in world.disk.checks.values())
    excused = told or gone or key in world.refused
    assert known or excused, "decision 3: acknowledged before the commit"


def emergency_relayed(world: World, terminal: Issi, events: list[Event]) -> None:
    """Decision 6: relayed first, before anything was awaited."""
    if not any(each.issi == terminal for each in world.config.fleet.terminals):
        return
    alarms = [e for e in events if isinstance(e, AlarmChanged) and e.terminal == terminal]
    assert alarms, "decision 6: an emergency that was not relayed at once"
    first = alarms[0].count == 1
    assert not first or any(isinstance(event, UnitEmergency) for event in events)


def fix_relayed(world: World, terminal: Issi, fix: LocationFix, events: list[Event]) -> None:
    """I10: a good position is on the feed before anything is awaited. (Only where no other can
    have made it late, out of place or doubtful: one that waited in the broker may be overtaken.)"""
    faults = world.faults
    late = fix.fixed_at_ms not in (None, world.clock.wall_ms())
    if late or faults.bad_fix or faults.wall_step or not faults.spares_the_air:
        return
    shown = [each for each in events if isinstance(each, UnitFix) and each.terminal == terminal]
    assert [(each.lat, each.lon) for each in shown] == [(fix.lat, fix.lon)], "I10: a fix not shown"


def bounded(world: World) -> None:
    """I13: nothing grows beyond its limit, whatever fails and whoever does not read."""
    core, bus = world.core, world.bus
    if core is None or bus is None:
        return
    keep = world.knobs.keep_events
    assert len(bus._ring) <= keep + 1, f"I13: the bus keeps {len(bus._ring)} events"
    for group in bus._groups.values():
        # What is no longer kept is trimmed in strides.
        assert len(group._due) <= keep + 257, f"I13: {len(group._due)} events due to a console"
    checks = world.config.settings.checks
    most = checks.queue + checks.concurrency
    # What an earlier life took and did not end is taken up again, however much it is.
    flying = [c for c in core.checks._memory if c.state.stage in BEFORE_OUTCOME and not c.restored]
    assert len(flying) <= most, f"I13: {len(flying)} checks in flight"
    assert len(core.checks.crew) <= TASKS_PER_CHECK * (checks.queue + 4 * checks.concurrency + 64)
    assert len(core.courier.crew) <= TELL_MOST + len(world.terminals), "I13: the courier's tasks"
    for terminal, waiting in core.courier._waiting.items():
        assert len(waiting) <= WAITING_MOST, f"I13: {len(waiting)} answers wait for {terminal}"


# --------------------------------------------------------------------------- after the heal


def answered_again(world: World) -> None:
    """I14: service is back to calm; no place at the PNC, no circuit and no queue was lost. (While
    our clock is set back, a text typed an hour ago may look like one typed a moment ago.)"""
    for issi, name in world.last_words.items():
        terminal = world.terminals[issi]
        base = world.base
        holder = Roster(base.fleet, base.people, base.areas).asker(issi)
        request = terminal.sent[name]
        if holder is None or not may_ask(base.policy, holder, request).allowed:
            continue
        if request.typed and world.clock.is_off:
            continue
        assert isinstance(request.key, VehicleKey)
        answers = [
            result
            for results in terminal.results.values()
            for result in results
            if result.outcome is Outcome.ANSWERED
            and _key(world.disk.opened(result.check)) == request.key.vrm
        ]
        assert answers, "I14: a question after the heal was not answered"


def joined(world: World) -> None:
    """Everything that can only be judged at the end."""
    _one_outcome_each(world)
    _nothing_left(world)
    for terminal in world.terminals.values():
        for receipt in terminal.receipts:
            if receipt.accepted:
                row = world.disk.checks.get(receipt.check)
                assert row is not None, "I1: receipted and lost"
                assert row.outcome, "I1: receipted, and no outcome"
        accepted: dict[str, set[str]] = defaultdict(set)
        for receipt in terminal.receipts:
            if receipt.accepted and receipt.ref and receipt.ref not in terminal.poison:
                accepted[receipt.ref].add(receipt.check)
        for checks in accepted.values():
            assert len(checks) == 1, "I1: one question, two checks"
        for check, results in terminal.results.items():
            bodies = {msgspec.json.encode(result) for result in results}
            assert bodies == {world.disk.checks[check].result}, "I2: other bytes than on record"
            _content(world, results[0])
    _nothing_invented(world)
    _late_notices(world)
    _consoles(world)
    _typed_once(world)
    _emergencies(world)
    _deaths(world)
    _more_on_record(world)
    if world.faults.spares_the_air:
        _nobody_in_silence(world)


def _one_outcome_each(world: World) -> None:
    endings: dict[str, list[str]] = defaultdict(list)
    for record in world.disk.records:
        if record.event in ENDINGS:
            endings[record.check].append(record.outcome)
    for check, outcomes in endings.items():
        assert len(outcomes) == 1, f"I1: {len(outcomes)} outcomes"
        assert world.disk.checks[check].outcome == outcomes[0], "I1: row and record differ"
    opened = [record.check for record in world.disk.records if record.event == "opened"]
    assert len(opened) == len(set(opened)), "I1: opened twice"
    parents = [r.parent for r in world.disk.records if r.event == "opened" and r.parent]
    assert len(parents) == len(set(parents)), "two supplements of one answer"
    assert set(opened) == set(endings), "I14: a check without an outcome after the heal"


def _nothing_left(world: World) -> None:
    """I14: after the heal nothing waits any more, anywhere."""
    core = world.core
    assert core is not None
    assert world.disk.outbox == {}, "I14: an answer that waits for ever"
    assert not [row for row in world.disk.checks.values() if row.open], "I14: an open check"
    assert core.checks.in_flight() == 0, "I14: a check in flight"
    assert len(core.checks.crew) == 0, "I14: a task that does not end"
    assert world.held_by_the_broker() == 0, "I14: a message that is never acknowledged"
    assert world.unsettled() == 0, "I14: a message that was never settled"
    ready, reasons = core.ready_now()
    assert ready, f"I14: not ready after the heal: {reasons}"


def _content(world: World, result: Result) -> None:
    """I22, decision 10: danger is never dropped, and silence is never 'no trace'."""
    mark = _key(world.disk.opened(result.check))
    shown = "\n".join(result.pages)
    if result.outcome is not Outcome.ANSWERED:
        assert "NO TRACE" not in shown.replace("NOT AS NO TRACE", ""), "decision 10"
        assert "NO REPORTS" not in shown, "decision 10"
        return
    if result.level == "L1":
        assert result.pages[0].startswith("SAFETY: "), "I22: amended to less than the tier"
        assert (mark != "TE99STV") or result.danger, "I22: the tier was amended away"
        return
    if _of_status(world, result.check):
        assert result.parent or "POLICE: NOT ASKED" in result.pages[0], "read of police records"
        assert not result.danger, "a status with a danger word"
        for word in ("STOLEN", "NO TRACE", "NO REPORTS", "CLEAR"):
            assert word not in shown, "a status that speaks of police records"
        return
    if mark in ("TE99ABC", "TE99STV"):
        assert "STOLEN" in result.pages[0], "I22: stolen not on page 1"
        assert result.danger, "I22: no danger word"
    if mark == "TE99STV":
        assert "VIOLENT" in result.pages[0], "I22: violent occupant not on page 1"
    asked = [query for query in world.asked if query.check == result.check]
    if result.check in world.unknown and len(asked) == 1:
        assert "UNKNOWN" in result.pages[0], "I22: an unknown marker was dropped (P08)"
    assert ("NO TRACE" in shown) == (mark == "TE99AAA"), "another vehicle's answer"


def _nothing_invented(world: World) -> None:
    """I7: every check on record was asked by that terminal, in these words."""
    for record in world.disk.records:
        if record.event != "opened" or not record.content:
            continue
        sent = world.terminals[record.terminal].sent.values()
        marks = {each.key.vrm for each in sent if isinstance(each.key, VehicleKey)}
        assert _key(record) in marks, "I7: a check that nobody asked"


def _late_notices(world: World) -> None:
    """D1: a late reply is said without content, and only of what was not answered."""
    for terminal in world.terminals.values():
        for notice in terminal.notices:
            if notice.kind == "late":
                outcome = world.disk.checks[notice.check].outcome
                assert outcome not in ("", Outcome.ANSWERED), "D1: a late notice of an answer"
                assert not any(word in notice.text for word in SECRETS), "D1: content in a notice"


def _consoles(world: World) -> None:
    """W09, I10, I20: what each console drew is what is true, however often it was cut off."""
    alarms = {alarm.id: alarm.state for alarm in world.disk.alarms.values()}
    for console in world.consoles:
        assert console.wrong == [], f"{console.name}: {console.wrong[0]}"
        links = {name: state for name, state in console.links.items() if name != "ledger"}
        assert set(links.values()) == {LinkState.UP}, f"{console.name}: a link that looks down"
        for check, outcome in console.outcomes.items():
            assert world.disk.checks[check].outcome == outcome, f"I1: {console.name}: {outcome}"
        if console.sees_all:
            drawn = {alarm.id: alarm.state for alarm in console.alarms.values()}
            assert drawn == alarms, f"W09: {console.name}: alarms {drawn}, on record {alarms}"
            fleet = {each.issi for each in world.base.fleet.terminals}
            assert set(console.units) == fleet, f"W09: {console.name}: units"
    fast, slow, _ = world.consoles
    assert fast.fixes == slow.fixes, "I10: two consoles show two pictures"


def _typed_once(world: World) -> None:
    """I21: the same typed text until 60 s after its outcome was one check, over restarts too. (A
    clock that is set leaves no way to tell how long ago anything was.)"""
    if world.faults.wall_step:
        return
    typed: dict[tuple[Issi, str], list[tuple[int, int]]] = defaultdict(list)
    for row in world.disk.checks.values():
        stored = json.loads(row.state)
        # Whoever books the radio after that was refused NOT BOOKED asks anew.
        if stored.get("typed") and stored["asker"]["officer"]:
            span = (row.opened_at_ms, stored["settled_at_ms"])
            typed[row.terminal, stored["typed"]].append(span)
    for spans in typed.values():
        for (_, settled_ms), (opened_ms, _) in pairwise(sorted(spans)):
            assert opened_ms - settled_ms >= 59_900, "I21: the same typed text asked twice"


def _emergencies(world: World) -> None:
    """Every emergency that reached us is on record, however long the disk was away; what a crash
    took while it was unacknowledged came again by itself."""
    raised = {record.terminal for record in world.disk.records if record.event == "emergency"}
    excused = bool(world.faults.crash or world.faults.kill or world.faults.deadly)
    assert excused or set(world.emergencies) <= raised, "an emergency that is not on record"


def _deaths(world: World) -> None:
    """M13: a question that ends the process is brought again three times at most, and once for each
    further copy that its terminal sent. (A disk that refuses a mark, or is slow with it, may let it
    be tried unmarked.)"""
    faults = world.faults
    if faults.disk_full or faults.disk_stall or faults.disk_slow_s > 0.05:
        return
    for each in world.deadly.values():
        most = TRIALS_MOST + each.fresh
        assert each.deaths <= most, f"M13: died {each.deaths} times of {each.fresh} copies"


def _more_on_record(world: World) -> None:
    """P06: what came after a reply is on record, once each, with its attempt; on no screen (that is
    what I2 and the late notices are asked for). A crash or a disk that is away may cost it."""
    second = [r for r in world.disk.records if r.detail.startswith("second reply")]
    noted = [(record.check, record.attempt) for record in second]
    assert len(noted) == len(set(noted)), "P06: a second reply recorded twice"
    assert set(noted) <= set(world.said_more), "P06: a second reply that nobody sent"
    faults = world.faults
    if not any((faults.disk_full, faults.disk_stall, faults.crash, faults.kill, faults.deadly)):
        assert set(noted) == set(world.said_more), "P06: a second reply that is not on record"


def _nobody_in_silence(world: World) -> None:
    """I4: while the air is sound, an outcome or NO ANSWER by the deadline, whatever fails behind
    it."""
    most_s = world.config.settings.checks.deadline_s + HEARD_WITHIN_S + TRANSPORT_S
    for terminal in world.terminals.values():
        for ref, since_s in terminal.given_at_s.items():
            names = [ref, *(check for check, of in terminal.checks.items() if of == ref)]
            heard = [terminal.word_at_s[name] for name in names if name in terminal.word_at_s]
            heard_s = min(heard, default=None)
            prompted = any(rule.prompt for rule in world.config.policy.rules)
            if heard_s is None and (world.faults.disk_stall or world.faults.disk_full or prompted):
                continue  # told of by an id that no receipt named; or the officer is not yet free
            assert heard_s is not None, "I4: an officer who heard nothing"
            if prompted:
                continue
            assert heard_s - since_s <= most_s, f"I4: heard after {heard_s - since_s:.1f} s"


# --------------------------------------------------------------------------- reading A


def _asked_by(world: World, terminal: Issi) -> list[Record]:
    return [r for r in world.disk.records if r.event == "opened" and r.terminal == terminal]


def _key(opened: Record) -> str:
    return str(json.loads(opened.content or b"{}").get("key", "")).removeprefix("VRM:")
