"""The switchboard: each message to its desk, settled once, and no defect reaches the link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Limits
from gateway.messages import (
    AckState,
    Bearer,
    BookOff,
    BookOn,
    CancelRequest,
    CheckRequest,
    DeliveryAck,
    EchoTest,
    Envelope,
    Heartbeat,
    HelpRequest,
    LocationFix,
    MalformedCheck,
    Notice,
    Privacy,
    Reasoning,
    RecallRequest,
    Receipt,
    Secret,
    StatusReport,
    Suspicion,
    Uplink,
    VehicleKey,
)
from gateway.roster import Roster
from gateway.settings import LimitsSection
from gateway.switchboard import HOLD_S, Desks, Switchboard
from tests.fakes import FakeClock, FakeJournal, FakeMeter
from tests.gateway.house import CONFIG, ISSI

FIX = LocationFix(lat=52.5725, lon=-0.2431, fixed_at_ms=1_795_325_047_000)
RECKONED = msgspec.structs.replace(FIX, reckoned=True)
"""Its age was told, not its time: that teaches nothing of the radio's clock."""
CHECK = CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", ref="r1")
MESSAGES: list[Uplink] = [
    FIX,
    RECKONED,
    Heartbeat(),
    CHECK,
    CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", ref="r2", fix=FIX),
    MalformedCheck(why="BAD VRM"),
    StatusReport(code=0),
    StatusReport(code=3),
    StatusReport(code=15),
    StatusReport(code=23),
    DeliveryAck(check="C001", part=2, state=AckState.READ),
    CancelRequest(check="C001"),
    HelpRequest(),
    EchoTest(text="A"),
    RecallRequest(),
    BookOn(officer="1001", factor=Secret("4711")),
    BookOff(),
    Privacy(free=True),
    Reasoning(check="C001", text="SEEN CLIMBING OUT OF A WINDOW"),
]


class Board:
    """A switchboard between desks that only write down what came; `raising` names one that fails.

    kept: the settles that a desk holds back for its record.
    """

    def __init__(self, *, raising: str = "", prompted: bool = False, cancels: bool = True) -> None:
        self.clock, self.meter, self.journal = FakeClock(), FakeMeter(), FakeJournal()
        self.calls: list[tuple[Any, ...]] = []
        self.kept: list[Callable[[], None]] = []
        self.settled = 0
        self._raising = raising
        self.roster = Roster(CONFIG.fleet, CONFIG.people, CONFIG.areas)
        self.alarm_open = True
        self.suspected: list[tuple[Suspicion, str, str]] = []
        desks = Desks()
        desks.submit = lambda e, r: self._call("submit", e.settle, r)
        desks.refuse_malformed = lambda e, m: self._call("refuse", e.settle, m)
        desks.cancel = lambda t, ref, settle: self._cancel(t, ref, settle, cancels)
        desks.recall = lambda t, ref, settle: self._call("recall", settle, t, ref)
        desks.free_to_receive = lambda t: self._call("free", None, t) or prompted
        desks.acknowledge = lambda t, ref, part, state, settle: self._call(
            "acknowledge", settle, t, ref, part, state
        )
        desks.note_time = lambda t, ms, _e: self._call("time", None, t, ms)
        desks.fix = lambda t, fix, _e: self._call("fix", None, t, fix)
        desks.emergency = lambda e: self._call("emergency", e.settle, e.terminal)
        desks.emergency_open = lambda _t: self.alarm_open
        desks.status = lambda t, code: self._call("status", None, t, code)
        desks.book_on = lambda e, m: self._call("book_on", e.settle, m)
        desks.book_off = lambda e, m: self._call("book_off", e.settle, m)
        desks.privacy = lambda e, m: self._call("privacy", e.settle, m)
        desks.reasoning = lambda e, m: self._call("reasoning", e.settle, m)
        desks.heard = lambda t: self._call("heard", None, t)
        desks.tell = lambda t, message, _s: self._call("tell", None, t, message)
        self.switchboard = Switchboard(
            desks=desks,
            roster=lambda: self.roster,
            limits=Limits(LimitsSection(), self.clock.monotonic_s()),
            suspect=lambda *what: self.suspected.append(what),
            clock=self.clock,
            meter=self.meter,
            journal=self.journal,
        )

    def _call(self, name: str, settle: Callable[[], None] | None, *what: object) -> bool:
        self.calls.append((name, *what))
        if name == self._raising:
            raise RuntimeError("planted TE99ABC")
        if settle is not None:
            self.kept.append(settle)
        return False

    def _cancel(
        self, terminal: str, ref: str, settle: Callable[[], None], found: bool
    ) -> str | None:
        self._call("cancel", settle if found else None, terminal, ref)
        return "C001" if found else None

    def say(self, message: Uplink, issi: str = ISSI, *, stored: bool = False) -> None:
        def settle() -> None:
            self.settled += 1

        self.switchboard.handle(
            Envelope(
                message=message,
                terminal=issi,
                link="air",
                bearer=Bearer.MQTT,
                received_at_ms=self.clock.wall_ms(),
                received_at_s=self.clock.monotonic_s(),
                reference_ms=self.clock.wall_ms(),
                settle=settle,
                stored=stored,
            )
        )

    def names(self) -> list[str]:
        return [call[0] for call in self.calls if call[0] != "heard"]


@pytest.mark.parametrize(
    ("message", "desks"),
    list(
        zip(
            MESSAGES,
            [
                ["time", "fix"],
                ["fix"],
                [],
                ["submit"],
                ["submit", "fix"],
                ["refuse"],
                ["emergency"],
                ["status"],
                ["status", "free", "acknowledge"],
                ["status", "recall"],
                ["acknowledge"],
                ["cancel"],
                ["tell"],
                ["tell"],
                ["recall"],
                ["book_on"],
                ["book_off"],
                ["privacy"],
                ["reasoning"],
            ],
            strict=True,
        )
    ),
)
def test_each_message_goes_to_its_desk(message: Uplink, desks: list[str]) -> None:
    """And the terminal counts as heard, whatever it said."""
    board = Board()
    board.say(message)
    assert board.names() == desks
    assert board.calls[-1] == ("heard", ISSI)
    assert board.roster.link_of(ISSI) == "air"


def test_what_lay_stored_is_judged_and_nobody_was_heard() -> None:
    """Neither its terminal nor the link: no answer goes out on it, no timer starts anew, and no
    clock is learned from it. What is said now does all of that."""
    board = Board()
    alive: list[str] = []
    board.switchboard._desks.alive = lambda envelope: alive.append(envelope.terminal)
    board.say(FIX, stored=True)
    assert board.calls == [("fix", ISSI, FIX)]
    assert (alive, board.settled) == ([], 1)
    assert board.roster.heard_at_s(ISSI) is None
    assert board.roster.link_heard_at_s("air") is None
    board.say(FIX)
    assert [call[0] for call in board.calls[1:]] == ["time", "fix", "heard"]
    assert alive == [ISSI]
    assert board.roster.heard_at_s(ISSI) is not None


@pytest.mark.parametrize("message", MESSAGES)
def test_what_a_desk_keeps_is_settled_by_it_and_the_rest_at_once(message: Uplink) -> None:
    board = Board()
    board.say(message)
    assert board.settled + len(board.kept) == 1
    for settle in board.kept * 3:
        settle()
    assert board.settled == 1, "exactly once, however often a desk says so"


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize(
    "raising",
    [
        "submit", "refuse", "cancel", "free", "acknowledge", "time", "fix", "emergency", "status",
        "heard", "tell", "book_on", "book_off", "privacy", "reasoning",
    ],
)  # fmt: skip
def test_a_defect_in_a_desk_costs_one_message(message: Uplink, raising: str) -> None:
    """M13: counted, journalled without content, settled; `handle` never raises."""
    board = Board(raising=raising)
    board.say(message)
    failed = any(call[0] == raising for call in board.calls)
    assert board.meter.total("task_restarts_total", task="switchboard") == failed
    assert "TE99" not in str(board.journal.lines)
    for settle in board.kept:
        settle()
    assert board.settled == 1
    assert ("heard", ISSI) in board.calls


def test_a_part_keeps_its_number_and_15_means_all_of_it() -> None:
    board = Board()
    board.say(DeliveryAck(check="C001", part=2, state=AckState.DELIVERED))
    board.say(StatusReport(code=15))
    acks = [call[1:] for call in board.calls if call[0] == "acknowledge"]
    assert acks == [(ISSI, "C001", 2, AckState.DELIVERED), (ISSI, "", 0, AckState.READ)]


def test_15_to_a_prompt_is_not_taken_for_read() -> None:
    board = Board(prompted=True)
    board.say(StatusReport(code=15))
    assert "acknowledge" not in board.names()
    assert board.settled == 1


def test_nothing_to_take_back_is_said() -> None:
    board = Board(cancels=False)
    board.say(CancelRequest())
    told = [call[2] for call in board.calls if call[0] == "tell"]
    assert told == [Notice(kind="cancelled", text="NOTHING TO CANCEL")]
    assert board.settled == 1


def test_a_stalled_record_does_not_hold_up_the_emergencys_session() -> None:
    """Decision 6: acknowledgements leave in order and a broker stops at its in-flight limit, so
    what waits for a record is let go after HOLD_S; questions, on a session of their own, are not.
    """
    board = Board()
    for message in (
        StatusReport(code=0),
        DeliveryAck(check="C001", part=1, state=AckState.READ),
        StatusReport(code=15),
        CHECK,
    ):
        board.say(message)
    now_s = board.clock.monotonic_s()
    board.switchboard.sweep(now_s + HOLD_S - 0.01)
    assert board.settled == 0
    board.switchboard.sweep(now_s + HOLD_S)
    assert board.settled == 3
    assert board.meter.total("queue_dropped_total", queue="status", reason="slow") == 3
    for settle in board.kept:
        settle()
    assert board.settled == 4


def test_what_was_recorded_in_time_is_not_counted_as_slow() -> None:
    """And what was let go is not kept: the list is as long as what waits."""
    board = Board()
    board.alarm_open = False  # so that none is one too many
    for _ in range(100):
        board.say(StatusReport(code=0))
        board.kept.pop()()
    board.switchboard.sweep(board.clock.monotonic_s() + 10)
    assert board.settled == 100
    assert board.meter.total("queue_dropped_total", queue="status") == 0
    assert len(board.switchboard._held) == 0


@given(st.lists(st.tuples(st.sampled_from(MESSAGES), st.sampled_from(["", "submit", "fix"]))))
def test_every_message_is_settled_once_in_any_history(moves: list[tuple[Uplink, str]]) -> None:
    """Whatever comes, whichever desk fails, before or after a sweep."""
    board = Board()
    for message, raising in moves:
        board._raising = raising
        board.say(message)
        board.switchboard.sweep(board.clock.monotonic_s() + HOLD_S)
    for settle in board.kept:
        settle()
    assert board.settled == len(moves)


# --------------------------------------------------------------------------- too much of it

OTHER = "5001002"


def test_a_flood_hears_slow_down_once_and_others_notice_nothing() -> None:
    """M11: refused beyond the burst, settled, counted, told to ops; spoken once, with the reference
    of the question, so that the terminal stops repeating it."""
    board = Board()
    for n in range(500):
        board.say(CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", ref=f"r{n}"))
    for _ in range(20):
        board.say(CHECK, OTHER)
    assert board.names().count("submit") == 20 + 20
    assert board.settled == 480
    assert board.meter.total("rate_limited_total", type="question", scope="terminal") == 480
    assert set(board.suspected) == {(Suspicion.FLOOD, "air", ISSI)}
    told = [call[1:] for call in board.calls if call[0] == "tell"]
    refused = Receipt(ref="r20", check="", short="", accepted=False, why="SLOW DOWN")
    assert told == [(ISSI, refused)]


def test_reports_hear_it_too_and_positions_are_dropped_without_a_word() -> None:
    board = Board()
    for _ in range(100):
        board.say(FIX)
    assert board.names().count("fix") == 20
    assert "tell" not in board.names()
    for _ in range(100):
        board.say(DeliveryAck(check="C001", part=1, state=AckState.READ))
    told = [call[2] for call in board.calls if call[0] == "tell"]
    assert told == [Notice(kind="slow", text="SLOW DOWN")]
    board.say(CHECK)
    assert board.names()[-1] == "submit", "neither costs a question"


def test_people_count_as_reports_and_not_as_questions() -> None:
    """A radio that books on without end costs nobody a question, its own officer neither."""
    board = Board()
    for _ in range(100):
        board.say(BookOn(officer="1001", factor=Secret("4711")))
    assert board.meter.total("rate_limited_total", type="report", scope="terminal") > 0
    assert board.meter.total("rate_limited_total", type="question") == 0
    board.say(CHECK)
    assert board.names()[-1] == "submit"


def test_an_emergency_is_not_refused_in_any_flood() -> None:
    """Whatever else its terminal and all others said; beyond the cap while no alarm stands, too."""
    board = Board()
    board.alarm_open = False
    for message in (FIX, CHECK, StatusReport(code=3)):
        for _ in range(300):
            board.say(message)
    for _ in range(60):
        board.say(StatusReport(code=0))
    assert board.names().count("emergency") == 60
    board.alarm_open = True
    board.say(StatusReport(code=0))
    assert board.names().count("emergency") == 60, "that press would only have been counted"
    assert board.meter.total("rate_limited_total", type="emergency") == 1


def test_a_defect_of_the_limits_takes_the_message() -> None:
    board = Board()

    def broken(_terminal: str) -> bool:
        raise RuntimeError("planted")

    board.switchboard._desks.emergency_open = broken
    board.say(StatusReport(code=0))
    assert board.names() == ["emergency"]
