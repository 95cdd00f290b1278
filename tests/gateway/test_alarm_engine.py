"""All alarms together: nothing lasting goes unshown, nothing shown is drowned, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import alarm_engine as engine
from gateway import alarm_life as life
from gateway.alarm_engine import Acted, Answer, Change, Engine, Flooded, Off, On, Restored, Tick
from gateway.alarm_life import About, Refuse, Show
from gateway.alarm_rules import AGAIN, EMERGENCY, EVERYBODY
from gateway.messages import AlarmChanged
from tests.gateway.strategies import RULES

BEGAN_S = 1000.0
BEGAN_MS = 1_795_325_047_000
MS = {rule.id: rule for rule in RULES.rules}


class Desk:
    """An engine, the time, and what its answers showed."""

    def __init__(self, *, grace_s: float = 0.0) -> None:
        self.engine = Engine(rules=RULES, began_s=BEGAN_S, grace_s=grace_s)
        self.now_s, self.now_ms = BEGAN_S, BEGAN_MS
        self.shown: list[AlarmChanged] = []
        self.answers: list[Answer] = []
        self._ids = 0

    def feed(self, event: engine.Event) -> tuple[Answer, ...]:
        self.engine, answers = engine.step(self.engine, event, self.now_s, self.now_ms)
        self.answers += answers
        for answer in answers:
            if isinstance(answer, Change):
                self.shown += [answer.alarm for each in answer.effects if isinstance(each, Show)]
        return answers

    def on(self, cause: str, about: About) -> tuple[Answer, ...]:
        self._ids += 1
        return self.feed(On(cause, about, f"A{self._ids:04d}"))

    def happened(self, cause: str, about: About) -> None:
        self._ids += 1
        self.feed(engine.Happened(cause, about, f"A{self._ids:04d}"))

    def off(self, cause: str, about: About) -> None:
        self.feed(Off(cause, about))

    def act(self, alarm: AlarmChanged, act: life.Act) -> str:
        """Why not; empty when it was done."""
        (answer,) = self.feed(Acted(alarm.id, act))
        assert isinstance(answer, Change)
        return next((each.why for each in answer.effects if isinstance(each, Refuse)), "")

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self.now_ms += 1000
            self.feed(Tick())

    def open(self, rule: str = "") -> list[AlarmChanged]:
        return [each for each in self.engine.open.values() if rule in ("", each.rule)]

    def only(self, rule: str = "") -> AlarmChanged:
        (alarm,) = self.open(rule)
        return alarm


@pytest.fixture
def desk() -> Desk:
    return Desk()


LINE = About(link="serial-east")
PNC = About(link="pnc")
UNIT = About(terminal="5001001", area="Eastern")


def unit(number: int) -> About:
    return About(terminal=f"50010{number:02d}", area="Eastern")


# --------------------------------------------------------------------------- delays


@pytest.mark.parametrize("rule", [rule for rule in RULES.rules if rule.id != EMERGENCY])
def test_on_after_its_delay_and_off_after_the_other(desk: Desk, rule: life.AlarmRule) -> None:
    """Each rule of the file: one occurrence; it goes with its cause, or waits for a look."""
    desk.on(rule.cause, UNIT)
    for _ in range(int(rule.on_delay_s)):
        assert desk.open() == []
        desk.passes(1)
    alarm = desk.only()
    assert (alarm.rule, alarm.priority, alarm.state) == (rule.id, rule.priority, "unack-active")
    assert (alarm.response, alarm.audience) == (rule.response, rule.audience)
    desk.on(rule.cause, UNIT)
    desk.passes(3)
    assert desk.only().count == 1, "said twice is not there twice"
    desk.off(rule.cause, UNIT)
    for _ in range(int(rule.off_delay_s)):
        assert desk.only().state == "unack-active"
        desk.passes(1)
    assert [each.state for each in desk.open()] == (["unack-cleared"] if rule.ack else [])


def test_an_emergency_is_shown_at_once_and_first(desk: Desk) -> None:
    """Whatever else there is to do: its Show is the first answer, also as the one too many."""
    for number in range(10):
        desk.on("clock_off", unit(number))
    answers = desk.on("emergency", unit(30))
    first = answers[0]
    assert isinstance(first, Change)
    assert first.alarm.rule == EMERGENCY
    assert first.effects[0] == Show(True)
    assert any(isinstance(answer, Flooded) for answer in answers[1:])


def test_nothing_is_raised_in_the_grace_that_may_wait(desk: Desk) -> None:
    """Little is known in the first half minute: what lasts is raised when it is over; a line that
    is down, and an emergency, are raised as ever."""
    desk = Desk(grace_s=30.0)
    desk.on("link_silent", LINE)
    desk.on("link_down", About(link="mqtt"))
    desk.on("emergency", UNIT)
    desk.passes(6)
    assert {each.rule for each in desk.open()} == {"EMG", "LNK"}
    desk.passes(24)
    assert {each.rule for each in desk.open()} == {"EMG", "LNK", "SIL"}


def test_a_clock_that_is_set_moves_no_alarm(desk: Desk) -> None:
    """H08: a delay, an escalation and a shelf run by the monotonic clock."""
    desk.on("emergency", UNIT)
    desk.on("link_down", LINE)
    desk.passes(5)
    alarm = desk.only("LNK")
    until_ms = desk.now_ms + 300_000
    assert desk.act(alarm, life.Shelved("op-1", until_ms, "test")) == ""
    desk.now_ms -= 3_600_000
    desk.passes(10)
    assert desk.only("EMG").audience == EVERYBODY
    desk.passes(290)
    assert desk.only("LNK").shelved_until_ms is None


# --------------------------------------------------------------------------- shelf


def test_a_shelf_returns_by_itself(desk: Desk) -> None:
    """It stays what it is meanwhile: counted, acknowledged, escalated not; then it is back."""
    desk.on("no_contact", UNIT)
    alarm = desk.only()
    until_ms = desk.now_ms + 300_000
    assert desk.act(alarm, life.Shelved("op-1", until_ms, "known fault")) == ""
    assert desk.act(alarm, life.Shelved("op-2", until_ms, "test")) == "ALREADY SHELVED"
    desk.passes(299)
    aside = desk.only()
    assert (aside.shelved_until_ms, aside.state) == (until_ms, "unack-active")
    assert aside.audience == "operator"
    desk.passes(1)
    back = desk.only()
    assert (back.shelved_until_ms, back.why, back.audience) == (None, "", EVERYBODY)


def test_off_the_shelf_before_its_time(desk: Desk) -> None:
    desk.on("link_silent", LINE)
    alarm = desk.only()
    assert desk.act(alarm, life.Unshelved("op-1")) == "NOT SHELVED"
    assert desk.act(alarm, life.Shelved("op-1", desk.now_ms + 300_000, "test")) == ""
    assert desk.act(alarm, life.Unshelved("op-2")) == ""
    assert desk.only().shelved_until_ms is None


# --------------------------------------------------------------------------- escalation, standing


def test_an_emergency_goes_to_supervisors_after_15_s(desk: Desk) -> None:
    """Once, and operators keep it; one that was acknowledged in time does not."""
    desk.on("emergency", unit(1))
    desk.on("emergency", unit(2))
    two = next(each for each in desk.open() if each.terminal == unit(2).terminal)
    desk.passes(14)
    assert desk.act(two, life.Acknowledged("op-1")) == ""
    desk.shown.clear()
    desk.passes(60)
    assert [(each.terminal, each.audience) for each in desk.shown] == [
        (unit(1).terminal, EVERYBODY)
    ]


def test_what_stands_for_a_day_is_put_on_record_once(desk: Desk) -> None:
    desk.on("link_down", LINE)
    desk.passes(5)
    desk.now_s += 24 * 3600
    desk.passes(3)
    written = [
        each.what
        for answer in desk.answers
        if isinstance(answer, Change)
        for each in answer.effects
        if isinstance(each, life.Write)
    ]
    assert written == ["raised", "standing"]


# --------------------------------------------------------------------------- chatter


def blink(desk: Desk, about: About = LINE) -> None:
    desk.on("link_down", about)
    desk.passes(6)
    desk.off("link_down", about)
    desk.passes(6)


def test_chatter_is_one_alarm_until_it_is_calm(desk: Desk) -> None:
    """The third raising in a minute holds it: no new occurrence, though each was acknowledged."""
    for _ in range(2):
        blink(desk)
        assert desk.act(desk.only(), life.Acknowledged("op-1")) == ""
    assert desk.open() == []
    blink(desk)
    alarm = desk.only()
    assert (alarm.chatter, alarm.state) == (3, "unack-active")
    assert desk.act(alarm, life.Acknowledged("op-1")) == ""
    for _ in range(4):
        blink(desk)
    now = desk.only()
    assert (now.id, now.state, now.chatter) == (alarm.id, "ack-active", 7)
    desk.passes(54 - 6)
    assert desk.only().chatter == 7
    desk.passes(7)
    assert desk.open() == []
    assert desk.shown[-1].chatter == 0
    assert desk.engine.conditions == {}, "nothing is remembered of it"


def test_two_hundred_blinks_are_few_alarms(desk: Desk) -> None:
    """And one more that stays down is there."""
    ids = set()
    for _ in range(200):
        blink(desk)
        ids |= {each.id for each in desk.open()}
        for each in desk.open():
            desk.act(each, life.Acknowledged("op-1"))
    assert len(ids) == 3
    desk.on("link_down", LINE)
    desk.passes(120)
    assert (desk.only().state, desk.only().chatter) == ("ack-active", 0)


# --------------------------------------------------------------------------- flood


def test_a_flood_hides_no_p1_and_no_p2(desk: Desk) -> None:
    """More than 10 in 10 minutes in one area: priority 3 is grouped by its rule, the first keeps
    its place; another area is not touched; over below 5."""
    desk.on("emergency", unit(40))
    desk.on("undelivered", About(terminal="5001041", check="C1", area="Eastern"))
    desk.on("clock_off", About(terminal="5003001", area="Southern"))
    desk.passes(5)
    for number in range(20):
        desk.on("clock_off", unit(number))
    desk.on("position_old", unit(50))
    desk.passes(6)
    begun = [answer for answer in desk.answers if isinstance(answer, Flooded)]
    assert begun == [Flooded("Eastern", 11, on=True)]
    groups = {each.rule: each.group for each in desk.open() if each.terminal != "5003001"}
    assert groups == {"EMG": "", "DNR": "", "SEM": "", "SKW": "SKW"}
    assert all(each.group == "SKW" for each in desk.open("SKW") if each.terminal != "5003001")
    assert [each.group for each in desk.open("SKW") if each.terminal == "5003001"] == [""]
    desk.passes(600)
    over = [answer for answer in desk.answers if isinstance(answer, Flooded)]
    assert [each.on for each in over] == [True, False]
    assert {each.group for each in desk.open()} == {""}
    assert len(desk.open("SKW")) == 21, "a flood loses nothing"


def test_places_are_bounded_and_an_emergency_has_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody acknowledges for days: what lasts waits for a place, and takes one that is free."""
    monkeypatch.setattr(engine, "MOST_OPEN", 20)
    for number in range(30):
        desk.on("clock_off", unit(number))
    desk.passes(1)
    assert len(desk.open()) == 20
    desk.on("emergency", unit(1))
    assert desk.only("EMG")
    for each in desk.open("SKW")[:5]:
        desk.off("clock_off", About(terminal=each.terminal))
    desk.passes(6)
    assert len(desk.open("SKW")) == 19


# --------------------------------------------------------------------------- collapse


def test_a_pnc_that_is_down_counts_what_follows_from_it(desk: Desk) -> None:
    """Checks that wait or fail are one count with it, before and after it was raised; an alarm
    that somebody acknowledged stays, and so does danger that was not delivered."""
    desk.on("pnc_down", PNC)
    desk.happened("unanswered", unit(1))
    desk.on("unanswered", unit(2))
    first = next(each for each in desk.open("CHX") if each.terminal == unit(2).terminal)
    assert desk.act(first, life.Acknowledged("op-1")) == ""
    desk.passes(10)
    pnc = desk.only("PNC")
    assert pnc.count == 2
    assert desk.only("CHX").terminal == unit(2).terminal
    for number in range(3, 8):
        desk.happened("unanswered", unit(number))
    desk.on("undelivered", unit(9))
    desk.on("emergency", unit(9))
    desk.passes(5)
    assert desk.only("PNC").count == 7
    assert len(desk.open("CHX")) == 1
    assert desk.only("DNR").state == desk.only("EMG").state == "unack-active"


def test_what_has_no_duration_counts_each_time(desk: Desk) -> None:
    """It is over five seconds after the last; seen or not, the next is counted or another."""
    for _ in range(3):
        desk.happened("unanswered", UNIT)
        desk.passes(3)
    alarm = desk.only()
    assert (alarm.count, alarm.state) == (3, "unack-active")
    desk.passes(2)
    assert desk.only().state == "unack-cleared"
    desk.happened("unanswered", UNIT)
    assert (desk.only().id, desk.only().count, desk.only().state) == (alarm.id, 4, "unack-active")
    assert desk.act(desk.only(), life.Acknowledged("op-1")) == ""
    desk.passes(5)
    assert desk.open() == []
    desk.happened("unanswered", UNIT)
    assert desk.only().id != alarm.id


def test_what_outlasts_the_pncs_alarm_is_raised_then(desk: Desk) -> None:
    desk.on("pnc_down", PNC)
    desk.passes(10)
    desk.on("slow", unit(1))
    desk.passes(20)
    assert desk.open("CHO") == []
    desk.off("pnc_down", PNC)
    desk.passes(6)
    assert desk.only("CHO").state == "unack-active"


# --------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("quiet_s", [6, 600])
def test_a_cause_that_comes_again_is_active_again(desk: Desk, quiet_s: int) -> None:
    """One that ceased and that nobody has looked at yet: the same occurrence, however long the
    cause was gone; it must not go on saying that all is well."""
    about = About(terminal="5001001", area="Eastern")
    rule = next(each for each in RULES.rules if each.id == "SEM")
    desk.on(rule.cause, about)
    desk.passes(int(rule.on_delay_s) + 1)
    first = desk.only("SEM")
    desk.off(rule.cause, about)
    desk.passes(int(rule.off_delay_s) + quiet_s)
    assert desk.only("SEM").state == "unack-cleared"
    desk.on(rule.cause, about)
    desk.passes(int(rule.on_delay_s) + 1)
    assert (desk.only("SEM").id, desk.only("SEM").state) == (first.id, "unack-active")


def test_closed_by_hand_stays_closed_while_it_lasts(desk: Desk) -> None:
    """A link that is no more says nothing: somebody must be able to end its alarm. The next time
    it is another."""
    desk.on("link_down", LINE)
    desk.passes(6)
    alarm = desk.only()
    assert desk.act(alarm, life.Acknowledged("op-1")) == ""
    assert desk.act(alarm, life.Closed("op-1")) == ""
    desk.passes(300)
    assert desk.open() == []
    desk.off("link_down", LINE)
    desk.passes(6)
    desk.on("link_down", LINE)
    desk.passes(6)
    assert desk.only().id != alarm.id


def test_an_act_on_what_is_gone_is_a_key_error(desk: Desk) -> None:
    with pytest.raises(KeyError):
        desk.feed(Acted("A9", life.Acknowledged("op-1")))


def test_other_rules_end_no_alarm(desk: Desk) -> None:
    """A reload: what is open keeps its words; what the new file does not know can be closed."""
    desk.on("link_down", LINE)
    desk.on("emergency", UNIT)
    desk.passes(6)
    known = tuple(
        msgspec.structs.replace(rule, id="XXX") if rule.id == "LNK" else rule
        for rule in RULES.rules
    )
    desk.feed(engine.Ruled(msgspec.structs.replace(RULES, rules=known)))
    desk.passes(6)
    alarm = desk.only("LNK")
    assert (alarm.response, alarm.state) == (MS["LNK"].response, "unack-cleared")
    assert desk.act(alarm, life.Acknowledged("op-1")) == ""
    assert desk.only().rule == EMERGENCY


# --------------------------------------------------------------------------- any sequence

UNITS = [unit(1), unit(2)]
POOL: list[tuple[str, About]] = [
    *((cause, about) for cause in ("emergency", "clock_off", "position_old") for about in UNITS),
    *((cause, LINE) for cause in ("link_down", "link_silent", "refused")),
    ("pnc_down", PNC),
    *((cause, About(terminal="5001001", check="C1")) for cause in ("slow", "undelivered")),
]
SAYS = st.one_of(
    st.tuples(st.sampled_from(["on", "off", "on"]), st.sampled_from(POOL)),
    st.tuples(st.just("happened"), st.sampled_from([("unanswered", about) for about in UNITS])),
)
ACTS = st.tuples(
    st.just("act"),
    st.tuples(
        st.integers(0, 20),
        st.sampled_from(["ack", "close", "shelve", "unshelve", "mistake"]),
        st.sampled_from(["op-1", "op-2"]),
    ),
)
TIME = st.tuples(st.just("pass"), st.sampled_from([1, 2, 5, 6, 16, 61, 310, 700]))
STORY = st.lists(st.one_of(SAYS, ACTS, TIME), max_size=40)


class Model:
    """What must hold, kept beside the engine by other means."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.since: dict[tuple[str, About], float] = {}
        self.by_hand: set[tuple[str, str]] = set()

    def tell(self, what: str, with_: object) -> None:
        desk = self.desk
        match what, with_:
            case "on", (str(cause), About() as about):
                desk.on(cause, about)
                self.since.setdefault((cause, about), desk.now_s)
            case "off", (str(cause), About() as about):
                if cause != "emergency":
                    desk.off(cause, about)
                    self.since.pop((cause, about), None)
            case "happened", (str(cause), About() as about):
                pnc = any(each.state.endswith("-active") for each in desk.open("PNC"))
                desk.happened(cause, about)
                assert pnc or any(each.terminal == about.terminal for each in desk.open("CHX"))
            case "act", (int(which), str(verb), str(by)):
                alarms = desk.open()
                if alarms:
                    self._act(alarms[which % len(alarms)], verb, by)
                    # What was folded into an alarm that is closed stands for itself a tick later.
                    desk.passes(1)
            case "pass", int(seconds):
                desk.passes(seconds)
        self.holds()

    def _act(self, alarm: AlarmChanged, verb: str, by: str) -> None:
        act: life.Act = {
            "ack": life.Acknowledged(by),
            "close": life.Closed(by),
            "shelve": life.Shelved(by, self.desk.now_ms + 300_000, "test"),
            "unshelve": life.Unshelved(by),
            "mistake": life.Mistaken(by),
        }[verb]
        why = self.desk.act(alarm, act)
        if alarm.priority == 1:
            assert verb != "shelve" or why == "CANNOT BE SHELVED"
        if verb == "close" and not why:
            if alarm.rule == EMERGENCY:
                assert alarm.ack_by
                assert alarm.ack_by != by, "one person closed an emergency"
                self.since.pop(("emergency", About(alarm.terminal, area="Eastern")), None)
            self.by_hand.add(engine.cause_of(alarm))

    def holds(self) -> None:
        now = self.desk.engine
        assert len(now.by_cause) == len(now.open) == len(now.timings)
        for alarm in now.open.values():
            assert now.by_cause[engine.cause_of(alarm)] == alarm.id
            assert alarm.state in {"unack-active", "ack-active", "unack-cleared"}
            if alarm.priority == 1:
                assert (alarm.shelved_until_ms, alarm.group) == (None, "")
            if alarm.shelved_until_ms is not None:
                assert alarm.shelved_until_ms > self.desk.now_ms, "a shelf that never returns"
        collapsing = {
            folded
            for alarm in now.open.values()
            if alarm.state.endswith("-active") and alarm.shelved_until_ms is None
            for folded in MS[alarm.rule].collapses
        }
        for (cause, about), since_s in self.since.items():
            rule = RULES.by_cause[cause]
            place = (rule.id, about.subject)
            alarm_id = now.by_cause.get(place)
            if alarm_id is not None:
                continue
            assert rule.id != EMERGENCY, "an emergency is gone"
            lasted_s = self.desk.now_s - since_s
            assert lasted_s < rule.on_delay_s or place in self.by_hand or rule.id in collapsing, (
                f"{cause} lasts {lasted_s} s and nobody is told"
            )


@settings(max_examples=100)
@example(
    [
        ("on", ("pnc_down", About(link="pnc"))),
        ("on", ("slow", About(terminal="5001001", check="C1"))),
        ("pass", 16),
        ("act", (0, "ack", "op-1")),
        ("act", (0, "close", "op-1")),
    ]
)
@given(STORY)
def test_whatever_happens(story: list[tuple[str, object]]) -> None:
    """What lasts has exactly one open occurrence, whatever is shelved, floods or chatters; an
    emergency stays until a second person closes it, and is never shelved, grouped or folded."""
    model = Model()
    for what, with_ in story:
        model.tell(what, with_)


def picture(desk: Desk) -> set[tuple[object, ...]]:
    return {
        (
            *engine.cause_of(each),
            each.state,
            each.ack_by,
            each.audience,
            each.why,
            each.shelved_until_ms is not None,
            each.chatter,
        )
        for each in desk.open()
    }


def durable(alarms: Iterable[AlarmChanged]) -> list[AlarmChanged]:
    """As the ledger gives them back."""
    return [msgspec.json.decode(msgspec.json.encode(alarm), type=AlarmChanged) for alarm in alarms]


@settings(max_examples=100)
@given(STORY)
def test_restored_it_behaves_as_one_that_never_died(story: list[tuple[str, object]]) -> None:
    """From what the ledger holds and what the world says anew: the same picture, the same
    occurrences, and after some quiet still the same."""
    model = Model()
    for what, with_ in story:
        model.tell(what, with_)
    old, new = model.desk, Desk()
    new.now_s, new.now_ms = old.now_s, old.now_ms
    for alarm in durable(old.open()):
        new.feed(Restored(alarm, "Eastern" if alarm.terminal else ""))
    assert picture(new) == picture(old)
    assert set(new.engine.open) == set(old.engine.open)
    for (rule, subject), condition in old.engine.conditions.items():
        closed = condition.raised and (rule, subject) not in old.engine.by_cause
        if closed:
            # Whoever closed it by hand would be told anew; so it is left out on both sides.
            old.off(MS[rule].cause, condition.about)
        elif condition.on:
            new.feed(On(MS[rule].cause, condition.about, condition.id))
        else:
            new.feed(Off(MS[rule].cause, condition.about))
    for _ in range(2):
        old.passes(100)
        new.passes(100)
        assert picture(new) == picture(old)


def test_what_the_world_says_anew_stays_and_the_rest_ends(desk: Desk) -> None:
    """A line that was down is down until it says otherwise; a flood that was of the last life
    ends by itself; an emergency never."""
    for cause, about in (("link_down", LINE), ("refused", LINE), ("emergency", UNIT)):
        desk.on(cause, about)
    desk.on("clock_off", UNIT)
    desk.passes(6)
    assert {"link_down"} == {MS[each.rule].cause for each in desk.open()} & AGAIN
    new = Desk()
    for alarm in durable(desk.open()):
        new.feed(Restored(alarm))
    new.passes(30)
    assert {each.rule for each in new.open()} == {"LNK", "EMG"}
