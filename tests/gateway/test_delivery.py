"""The Courier: at least once, most urgent first, to the officer who asked and to nobody else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from gateway.delivery import AT_ONCE, IN_SLOTS_MOST, TELL_MOST, WAITING_MOST, Courier
from gateway.messages import (
    AckState,
    Bearer,
    CheckDelivery,
    Event,
    Notice,
    Outcome,
    Receipt,
    Result,
    StatusReport,
)
from gateway.parcels import Parcel
from tests.fake_link import FakeLink
from tests.fakes import FakeClock, FakeJournal, FakeMeter, settle
from tests.gateway.house import ISSI, OTHER, House, config, other_holder

HOLDER = "police:1001@5001001"
HOLDS_S = 5.0


class Post:
    """A Courier alone, with one link; `stale` are the checks it gave up."""

    def __init__(self) -> None:
        self.clock, self.meter = FakeClock(), FakeMeter()
        self.link = FakeLink()
        self.events: list[Event] = []
        self.holder = HOLDER
        self.stale: list[str] = []
        self.courier = Courier(
            clock=self.clock,
            meter=self.meter,
            journal=FakeJournal(),
            publish=self.events.append,
            link_for=lambda issi: self.link if self.link.reaches(issi) else None,
            holder_of=lambda _issi: self.holder,
            resend_s=10.0,
            broker_holds_s=HOLDS_S,
        )
        self.courier.stale = self.stale.append
        self._n = 0

    def parcel(self, *, hit: bool = False, issi: str = ISSI, texts: int = 1) -> Parcel:
        self._n += 1
        id_ = f"01TEST{self._n:06d}C{self._n:03X}"
        result = Result(
            ref=f"r{self._n}",
            check=id_,
            short=id_[-4:],
            outcome=Outcome.ANSWERED,
            result_class="",
            danger=(),
            pages=("P",),
            texts=tuple(f"{n}/{texts}" for n in range(1, texts + 1)),
            fields={},
            not_checked=(),
            as_of_ms=0,
            level="L3",
            receipt="R",
        )
        return Parcel(
            id=id_,
            check=id_,
            short=id_[-4:],
            terminal=issi,
            holder=HOLDER,
            message=result,
            stale_at_s=self.clock.monotonic_s() + 600,
            priority=0 if hit else 1,
            accepted_at_s=self.clock.monotonic_s(),
        )

    def refs(self) -> list[str]:
        return [s.message.ref for s in self.link.sent if isinstance(s.message, Result)]


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    post = Post()
    tending = asyncio.ensure_future(post.courier.tend())
    yield post
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)
    await post.courier.crew.cancel()


# --------------------------------------------------------------------------- few in a turn


async def test_of_all_that_is_due_together_a_turn_of_the_loop_carries_a_few(post: Post) -> None:
    """A link is back and many terminals are due; ten minutes later all is too old."""
    post.link.up = False
    for n in range(100):
        post.courier.post(post.parcel(issi=f"{5_000_000 + n}"))
    await settle()
    post.link.up = True
    post.courier.link_up()
    assert await most_in_a_turn(post, lambda: len(post.link.sent), 0.25, 100) <= AT_ONCE
    assert await most_in_a_turn(post, lambda: len(post.stale), 600, 100) <= AT_ONCE


async def most_in_a_turn(post: Post, count: Callable[[], int], seconds: float, whole: int) -> int:
    """While the clock goes on by so much and until all is done: the most between two turns."""
    passing = asyncio.ensure_future(post.clock.advance(seconds))
    most, before = 0, count()
    for _ in range(200_000):
        if passing.done() and before >= whole:
            return most
        await asyncio.sleep(0)
        most, before = max(most, count() - before), count()
    raise AssertionError(f"{before} of {whole}")


# --------------------------------------------------------------------------- at least once


async def test_sent_again_ever_more_rarely_until_it_is_done(post: Post) -> None:
    """10, 20, 40, 80, then at most every 120 s; nothing after it was acknowledged."""
    parcel = post.parcel()
    post.courier.post(parcel)
    await settle()
    at_s = [0.0]
    start_s = post.clock.monotonic_s()
    for _ in range(1600):
        await post.clock.advance(0.25)
        if len(post.link.sent) > len(at_s):
            at_s.append(post.clock.monotonic_s() - start_s)
    gaps = [later - earlier for earlier, later in itertools.pairwise(at_s)]
    for gap, expected in zip(gaps, [10, 20, 40, 80, 120, 120], strict=False):
        assert gap == pytest.approx(expected, abs=0.6)
    post.courier.done(parcel.check)
    sent = len(post.link.sent)
    await post.clock.advance(500)
    assert len(post.link.sent) == sent
    assert not post.courier.waiting(parcel.check)


async def test_a_broker_may_keep_for_a_moment_only_what_says_something_of_somebody(
    post: Post,
) -> None:
    """Else it could hand an answer to the next officer minutes after the terminal changed hands
    (decision 13); and never longer than the answer itself is good for. A plain word may wait."""
    parcel = post.parcel()
    post.courier.post(parcel)
    await post.clock.advance(599)
    assert len(post.link.sent) > 5
    assert all(0 < sent.expires_in_s <= HOLDS_S for sent in post.link.sent)
    for said, most_s in (
        (parcel.message, HOLDS_S),
        (Notice(kind="waiting", text="RESULT WAITING", danger=("WEAPONS",)), HOLDS_S),
        (Notice(kind="message", text="CALL YOUR SERGEANT"), HOLDS_S),
        (Notice(kind="booking", text="BOOKED OFF"), 60.0),
        (Receipt(ref="r1", check="C1", short="C1", accepted=True), 60.0),
    ):
        post.courier.tell(ISSI, said, expires_in_s=60.0)
        await settle()
        assert post.link.sent[-1].expires_in_s == most_s, said


async def test_what_failed_is_tried_when_the_terminal_is_heard(post: Post) -> None:
    post.link.up = False
    post.courier.post(post.parcel())
    await post.clock.advance(3)
    post.link.up = True
    post.courier.heard(ISSI)
    await settle()
    assert len(post.link.sent) == 1


async def test_what_was_sent_into_a_tunnel_is_sent_again_at_the_first_word(post: Post) -> None:
    """A bearer took it, the terminal was away: its first word since then brings the answer again,
    its second does not; one that talks all the time is not flooded."""
    post.courier.post(post.parcel())
    await post.clock.advance(31)  # sent at 0, 10, 30; the next is due at 70
    assert len(post.link.sent) == 3
    post.courier.heard(ISSI)  # heard 1 s after it was sent: it was in reach
    await post.clock.advance(20)
    assert len(post.link.sent) == 3
    await post.clock.advance(20)
    assert len(post.link.sent) == 4  # due at 70 s; the next at 150
    await post.clock.advance(30)
    for _ in range(5):
        post.courier.heard(ISSI)
        await settle()
    assert len(post.link.sent) == 5


async def test_a_deaf_bearer_costs_one_terminal_only(post: Post) -> None:
    """A send that hangs to one terminal does not hold up another's answer."""
    post.link.gate.clear()
    post.courier.post(post.parcel())
    await settle()
    post.link.gate.set()
    post.courier.post(post.parcel(issi=OTHER))
    await settle()
    assert len(post.link.sent) == 2


async def test_a_link_that_raises_what_it_may_not_costs_one_attempt(post: Post) -> None:
    """A defect of a link is counted; the answer is tried again."""
    post.link.error = RuntimeError("planted")
    post.courier.post(post.parcel())
    await settle()
    post.link.error = None
    await post.clock.advance(11)
    assert len(post.link.sent) == 1
    assert post.meter.total("task_restarts_total", task="courier") == 1


# --------------------------------------------------------------------------- in its slot


SLOT_S = 3.7
"""No multiple of what `tend` sleeps: only whoever waits for it exactly is there in time."""


async def sent_at_s(post: Post, *, jolt: str, after_s: float) -> float:
    """When the first copy went out, counted from `start`, if this happened `after_s` after it."""
    start_s = post.clock.monotonic_s()
    parcel = post.parcel()
    parcel.not_before_s = start_s + SLOT_S
    await post.clock.advance(after_s)
    post.courier.post(parcel)
    await settle()
    match jolt:
        case "heard":
            post.courier.heard(ISSI)
        case "asked again":
            post.courier.again(parcel.check)
        case "link up":
            post.courier.link_up()
            post.courier.heard(ISSI)
        case "another":
            post.courier.post(post.parcel(hit=True))
        case _:
            pass
    for _ in range(600):
        await post.clock.advance(0.01)
        if parcel.sent_at_s is not None:
            break
    assert parcel.sent_at_s is not None
    return parcel.sent_at_s - start_s


@pytest.mark.parametrize("jolt", ["", "heard", "asked again", "link up", "another"])
@pytest.mark.parametrize("after_s", [0.0, 0.61, 3.0, 3.69])
async def test_nothing_moves_an_answer_out_of_its_slot(
    post: Post, jolt: str, after_s: float
) -> None:
    """Whenever the answer was there, and whatever happens meanwhile: the same instant."""
    assert await sent_at_s(post, jolt=jolt, after_s=after_s) == pytest.approx(SLOT_S, abs=1e-6)


async def test_an_answer_whose_slot_has_begun_goes_at_once(post: Post) -> None:
    assert await sent_at_s(post, jolt="", after_s=4.5) == pytest.approx(4.5, abs=1e-6)


async def test_an_answer_in_its_slot_is_still_resent_and_goes_stale(post: Post) -> None:
    """Its slot is when it may first be sent, and changes nothing after that."""
    parcel = post.parcel()
    parcel.not_before_s = post.clock.monotonic_s() + SLOT_S
    post.courier.post(parcel)
    await post.clock.advance(SLOT_S + 10.5)
    assert len(post.link.sent) == 2
    post.holder = "police:9999@5001001"
    await post.clock.advance(20)
    assert post.stale == [parcel.check]
    assert len(post.link.sent) == 2


async def test_who_holds_it_is_asked_when_its_slot_begins(post: Post) -> None:
    """What is said once, too: the next holder hears nothing of it."""
    at_s = post.clock.monotonic_s() + SLOT_S
    told = Notice(kind="held", text="WITH CONTROL")
    for holder in (HOLDER, "police:9999@5001001"):
        post.courier.tell(ISSI, told, expires_in_s=60, holder=HOLDER, not_before_s=at_s)
        await post.clock.advance(SLOT_S - 0.01)
        assert post.link.sent == []
        post.holder = holder
        await post.clock.advance(0.02)
        assert [sent.message for sent in post.link.sent] == ([told] if holder == HOLDER else [])
        post.link.sent.clear()
        at_s = post.clock.monotonic_s() + SLOT_S
    assert post.meter.total("queue_dropped_total", queue="outbox", reason="stale") == 1


async def test_a_stop_does_not_wait_for_slots(post: Post) -> None:
    """What waits for one is on record, and is sent after the next start."""
    parcel = post.parcel()
    parcel.not_before_s = post.clock.monotonic_s() + SLOT_S
    post.courier.post(parcel)
    notice = Notice(kind="held", text="WITH CONTROL")
    post.courier.tell(ISSI, notice, expires_in_s=60, not_before_s=parcel.not_before_s)
    await settle()
    async with asyncio.timeout(30):
        await post.courier.stop(3600)
    assert post.link.sent == []


async def test_who_waits_for_slots_takes_nobodys_place(post: Post) -> None:
    """However many do, a receipt goes out; of what is said once, more than so many are dropped."""
    at_s = post.clock.monotonic_s() + SLOT_S
    for number in range(TELL_MOST + 1):
        parcel = post.parcel(issi=f"{6_000_000 + number}")
        parcel.not_before_s = at_s
        post.courier.post(parcel)
    assert len(post.courier.crew) == 1
    receipt = Notice(kind="clock", text="RADIO CLOCK SLOW")
    post.courier.tell(ISSI, receipt, expires_in_s=60)
    await settle()
    assert [sent.message for sent in post.link.sent] == [receipt]
    for _ in range(IN_SLOTS_MOST):
        post.courier.tell(ISSI, receipt, expires_in_s=60, not_before_s=at_s)
    dropped = post.meter.total("queue_dropped_total", queue="outbox", reason="full")
    assert dropped == TELL_MOST + 1


@pytest.mark.parametrize("first", [0, 1])
async def test_in_one_slot_the_older_question_comes_first(post: Post, first: int) -> None:
    """Whichever answer was there first."""
    parcels = [post.parcel(), post.parcel()]
    for parcel in parcels:
        parcel.not_before_s = post.clock.monotonic_s() + SLOT_S
    for parcel in (parcels[first], parcels[1 - first]):
        post.courier.post(parcel)
        await post.clock.advance(0.5)
    await post.clock.advance(SLOT_S)
    assert post.refs() == ["r1", "r2"]


# --------------------------------------------------------------------------- order


async def test_a_hit_goes_before_other_answers(post: Post) -> None:
    """Decision 6: what waits for one terminal leaves most urgent first, one at a time."""
    post.link.up = False
    for hit in (False, False, True, False):
        post.courier.post(post.parcel(hit=hit))
    await settle()
    post.link.up = True
    post.courier.heard(ISSI)
    await settle()
    assert post.refs() == ["r3", "r1", "r2", "r4"]


async def test_a_terminal_that_acknowledges_nothing_does_not_fill_the_memory(post: Post) -> None:
    """The least of its answers goes stale, on record: no hit before others, the oldest first."""
    hits = [post.parcel(hit=True) for _ in range(3)]
    for parcel in hits:
        post.courier.post(parcel)
    for _ in range(2 * WAITING_MOST):
        post.courier.post(post.parcel())
        await settle(4)
    assert len(post.stale) == WAITING_MOST + 3
    assert not set(post.stale) & {hit.check for hit in hits}
    assert post.stale[0].endswith("C004")
    dropped = post.meter.total("queue_dropped_total", queue="outbox", reason="terminal_limit")
    assert dropped == len(post.stale)


# --------------------------------------------------------------------------- whose it is


async def test_it_belongs_to_the_officer_not_to_the_radio(post: Post) -> None:
    """Decision 13: at the moment of sending another holder, or none: stale, undelivered."""
    for holder in ("police:9999@5001001", ""):
        post.link.up = False
        post.holder = HOLDER
        parcel = post.parcel()
        post.courier.post(parcel)
        await settle()
        post.holder, post.link.up = holder, True
        post.courier.heard(ISSI)
        await settle()
        assert post.link.sent == []
        assert post.stale[-1] == parcel.check


async def test_when_holders_change_it_goes_stale_at_once(post: Post) -> None:
    """H11: not only when somebody happens to be heard."""
    post.link.up = False
    parcel = post.parcel()
    post.courier.post(parcel)
    await settle()
    post.holder = "police:9999@5001001"
    post.courier.holders_changed()
    assert post.stale == [parcel.check]


@pytest.mark.parametrize("how", ["holder_changed", "holders_changed"])
async def test_what_a_slow_bearer_still_has_goes_stale_with_its_holder(
    post: Post, how: str
) -> None:
    """The air takes seconds; meanwhile the radio is another's. An answer and a word said once."""
    post.link.gate.clear()
    post.link.send_s = 60.0
    parcel = post.parcel()
    post.courier.post(parcel)
    post.courier.tell(ISSI, Notice(kind="message", text="X"), expires_in_s=60, holder=HOLDER)
    post.courier.tell(ISSI, Notice(kind="help", text="Y"), expires_in_s=60)
    await settle()
    getattr(post.courier, how)(*[ISSI][: how == "holder_changed"])
    await settle()
    assert post.stale == [], "it is theirs still"
    post.holder = "police:9999@5001001"
    getattr(post.courier, how)(*[ISSI][: how == "holder_changed"])
    await settle()
    post.link.gate.set()
    await settle()
    assert [sent.message for sent in post.link.sent] == [Notice(kind="help", text="Y")]
    assert post.stale == [parcel.check]


async def test_the_wait_for_its_acknowledgement_begins_when_it_is_sent(post: Post) -> None:
    """An answer that was 30 s on its way is not sent again at once."""
    post.link.gate.clear()
    post.courier.post(post.parcel())
    await post.clock.advance(30)
    post.link.gate.set()
    await post.clock.advance(9)
    assert len(post.refs()) == 1
    await post.clock.advance(2)
    assert len(post.refs()) == 2


async def test_after_its_time_it_is_never_sent(post: Post) -> None:
    post.link.up = False
    parcel = post.parcel()
    post.courier.post(parcel)
    await post.clock.advance(600.5)
    post.link.up = True
    post.courier.heard(ISSI)
    await post.clock.advance(300)
    assert post.link.sent == []
    assert post.stale == [parcel.check]


# --------------------------------------------------------------------------- acknowledgements


async def test_received_means_what_was_sent_not_what_waits(post: Post) -> None:
    """Status 15 for the answer on the screen must not make one that was never sent count as read:
    a hit would be lost."""
    shown = post.parcel()
    post.courier.post(shown)
    await settle()
    post.link.gate.clear()
    unsent = post.parcel(hit=True)
    post.courier.post(unsent)
    await settle()
    assert post.courier.find(ISSI, "") == shown.check
    post.link.gate.set()
    await settle()
    assert post.courier.find(ISSI, "") == unsent.check
    assert post.courier.find(ISSI, shown.short) == shown.check
    assert post.courier.find(OTHER, shown.short) is None
    assert post.courier.find(OTHER, "") is None


async def test_what_was_never_tried_cannot_be_acknowledged_by_name(post: Post) -> None:
    post.link.gate.clear()
    first, second = post.parcel(), post.parcel()
    post.courier.post(first)
    post.courier.post(second)
    await settle()
    assert post.courier.find(ISSI, first.check) == first.check, "it may have come through"
    assert post.courier.find(ISSI, second.check) is None


async def test_on_a_line_every_part_must_be_acknowledged(post: Post) -> None:
    """Each text of a line is a message that can be lost alone: the first one's word is not the
    whole's. A status 15 is the officer's word for all of it."""
    post.link.bearer = Bearer.SERIAL
    parcel = post.parcel(texts=3)
    post.courier.post(parcel)
    await settle()
    took = post.courier.took
    assert took(parcel.check, 1, AckState.DELIVERED) is None
    assert took(parcel.check, 1, AckState.READ) is None
    assert took(parcel.check, 3, AckState.DELIVERED) is None
    assert took(parcel.check, 2, AckState.DELIVERED) is AckState.DELIVERED
    assert took(parcel.check, 2, AckState.READ) is AckState.DELIVERED
    assert took(parcel.check, 3, AckState.READ) is AckState.READ
    assert took(parcel.check, 1, AckState.DELIVERED) is AckState.READ, "read is not taken back"
    assert took(post.parcel().check, 0, AckState.READ) is AckState.READ


async def test_over_mqtt_the_answer_is_one_message(post: Post) -> None:
    parcel = post.parcel(texts=3)
    post.courier.post(parcel)
    await settle()
    assert post.courier.took(parcel.check, 1, AckState.DELIVERED) is AckState.DELIVERED


async def test_acknowledged_while_it_is_being_sent_it_is_not_shown_as_sent_afterwards(
    post: Post,
) -> None:
    """A fast terminal answers before its broker does: the console must not fall back."""
    parcel = post.parcel()
    post.link.gate.clear()
    post.courier.post(parcel)
    await settle()
    post.courier.done(parcel.check)
    post.link.gate.set()
    await settle()
    assert [e.state for e in post.events if isinstance(e, CheckDelivery)] == []


# --------------------------------------------------------------------------- said once


async def test_what_is_said_once_is_not_kept(post: Post) -> None:
    """A receipt or notice that cannot be said is dropped and counted; the terminal asks again."""
    post.link.up = False
    post.courier.tell(ISSI, Notice(kind="help", text="X"), expires_in_s=60)
    await settle()
    post.link.up = True
    await post.clock.advance(100)
    assert post.link.sent == []
    assert post.meter.total("queue_dropped_total", queue="outbox", reason="unreachable") == 1


async def test_saying_is_bounded(post: Post) -> None:
    post.link.gate.clear()
    for _ in range(TELL_MOST + 7):
        post.courier.tell(ISSI, Notice(kind="help", text="X"), expires_in_s=60)
    assert post.meter.total("queue_dropped_total", queue="outbox", reason="full") == 7


async def test_figures(post: Post) -> None:
    parcel = post.parcel()
    post.courier.post(parcel)
    await settle()
    assert post.meter.gauges["queue_depth", (("queue", "outbox"),)] == 1
    await post.clock.advance(11)
    assert post.meter.total("result_parts_total", state="sent") == 2
    assert post.meter.total("result_retries_total", bearer="mqtt") == 1
    latencies = [seconds for name, seconds, _ in post.meter.observed if "delivery_latency" in name]
    assert len(latencies) == 1, "measured at the first send"
    post.courier.done(parcel.check)
    assert post.meter.gauges["queue_depth", (("queue", "outbox"),)] == 0


# --------------------------------------------------------------------------- with the desk


async def test_until_read_or_stale_on_record() -> None:
    """Sent again until read; on record, the outbox empty; another terminal's word is nothing."""
    async with House() as house:
        await house.ask("TE99ABC")
        check = house.newest()
        theirs = await house.read(check, issi=OTHER)
        assert house.disk.of(check)[-1] == "disclosed"
        assert theirs.settled == 1
        await house.passes(10.5)
        assert len(house.results) == 2
        await house.read(check[-4:])
        assert house.disk.of(check)[-1] == "read"
        assert house.disk.outbox == {}
        await house.passes(300)
        assert len(house.results) == 2
        states = [e.state for e in house.events if isinstance(e, CheckDelivery)]
        assert states == ["sent", "sent", "read"]


async def test_a_hit_that_nobody_read_is_counted_late() -> None:
    async with House() as house:
        house.link.unreached.add(ISSI)
        await house.ask("TE99ABC")
        await house.passes(601)
        assert house.disk.of(house.newest())[-1] == "stale"
        assert house.meter.total("danger_results_total", state="late") == 1
        house.link.unreached.clear()
        house.say(StatusReport(code=2))
        await house.passes(60)
        assert house.results == []


async def test_an_acknowledgement_is_settled_after_its_record() -> None:
    """Decision 3, as far as an emergency does not wait behind it (test_switchboard.py)."""
    async with House() as house:
        await house.ask()
        house.ledger.gate.clear()
        said = await house.read(house.newest())
        assert said.settled == 0
        house.ledger.gate.set()
        await settle()
        assert said.settled == 1


async def test_an_acknowledgement_does_not_let_a_question_go() -> None:
    """A status 15 while a refusal is being written must not acknowledge the question's message
    before its commit."""
    async with House() as house:
        house.ledger.gate.clear()
        question = await house.ask(reason="77")
        received = await house.status(15)
        assert (question.settled, received.settled) == (0, 1)
        house.ledger.gate.set()
        await settle()
        assert question.settled == 1


async def test_an_acknowledgement_that_cannot_be_written_is_written_later() -> None:
    """What was read is on record as read as soon as the disk has room, and once."""
    async with House() as house:
        await house.ask()
        house.ledger.down = True
        await house.read(house.newest())
        await house.passes(5)
        house.ledger.down = False
        await house.passes(2)
        assert len(house.on_record("read")) == 1
        assert house.disk.outbox == {}
        assert house.all_settled()


@pytest.mark.parametrize("ref", ["whole", "short", "foreign"])
async def test_an_acknowledgement_of_what_memory_has_forgotten(ref: str) -> None:
    """By its whole id or its short form, of this terminal alone: another's is nothing to it."""
    async with House(config(settled_memory=1)) as house:
        await house.ask()
        check = house.newest()
        await house.read(check)
        for _ in range(3):
            await house.ask()
            await house.read(house.newest())
        name = {"whole": check, "short": check[-4:], "foreign": "02ELSE000000" + check[-4:]}[ref]
        before = len(house.on_record("read"))
        said = await house.read(name)
        assert len(house.on_record("read")) == before + (ref != "foreign")
        assert said.settled == 1
        house.ledger.reads_down = True
        said = await house.read(name)
        assert said.settled == 1


async def test_queued_for_a_terminal_that_was_taken_away_nothing_is_sent() -> None:
    """H11: the fleet no longer knows it; and nothing that it says counts."""
    async with House() as house:
        house.link.up = False
        await house.ask("TE99ABC")
        terminals = tuple(t for t in house.config.fleet.terminals if t.issi != ISSI)
        fleet = msgspec.structs.replace(house.config.fleet, terminals=terminals)
        house.core.apply(msgspec.structs.replace(house.config, fleet=fleet))
        house.link.up = True
        await house.passes(30)
        assert house.results == []
        assert house.disk.of(house.newest())[-1] == "stale"


async def test_a_new_holder_hears_nothing_of_the_last_ones_check() -> None:
    """Asked by one, answered when another holds the radio: on record, delivered to nobody."""
    async with House() as house:
        hang = house.pnc.hang()
        await house.ask("TE99ABC")
        house.core.apply(other_holder(house.config))
        hang.answer()
        await house.passes(30)
        assert house.results == []
        assert house.disk.of(house.newest())[-1] == "stale"
