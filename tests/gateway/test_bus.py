"""The bus: nothing is lost unsaid, nothing is shown undue, nobody waits for a watcher."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest

from gateway.bus import BATCH_EVENTS, Batch, EventBus, Subscription
from gateway.messages import (
    RIGHTS,
    AlarmChanged,
    ChallengeChanged,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    FixSource,
    Kind,
    LinkChanged,
    LinkState,
    MessageChanged,
    Noticed,
    Outcome,
    PolicyChanged,
    ReleaseChanged,
    UnitEmergency,
    UnitFix,
    UnitMeta,
    Viewer,
)
from gateway.projection import visible
from tests.fakes import FakeClock, FakeMeter, settle

ALL = frozenset({"class", "callsign", "position", "identity", "emergency"})
CONSOLE = Viewer(id="c1", kind="console", rights=ALL)


def link(name: str = "south") -> LinkChanged:
    return LinkChanged(id=name, kind="serial", state=LinkState.UP, since_ms=1)


def staged(n: int = 0) -> CheckStaged:
    return CheckStaged(short="C7F3", check="01X", terminal="4001", stage="pnc", t_ms=n)


def fix(terminal: str = "4001", lat: float = 52.57) -> UnitFix:
    return UnitFix(
        terminal=terminal,
        lat=lat,
        lon=-0.24,
        fixed_at_ms=1,
        received_at_ms=2,
        accuracy_m=None,
        course_deg=None,
        speed_mps=None,
        source=FixSource.GNSS,
    )


def emergency(occurrence: str = "A1") -> UnitEmergency:
    return UnitEmergency(
        terminal="4001", occurrence=occurrence, on=True, t_ms=1, lat=52.5, lon=-0.2, fix_age_s=3.0
    )


def done(**changes: object) -> CheckDone:
    event = CheckDone(
        short="C7F3",
        check="01X",
        terminal="4001",
        kind=Kind.PERSON,
        outcome=Outcome.ANSWERED,
        result_class="HIT_CRITICAL",
        danger=("WEAPONS",),
        parts=2,
        not_checked=("INSURANCE",),
        level="L3",
        t_ms=1,
        elapsed_s=0.1,
        overhead_s=0.01,
    )
    return msgspec.structs.replace(event, **changes)


def only_links(viewer: Viewer, event: Event) -> Event | None:
    """A policy that leaves holes: links and fixes only."""
    return event if isinstance(event, LinkChanged | UnitFix) else None


def encode(event: Event, seq: int, prev: int | None) -> bytes:
    return f"{type(event).__name__}:{seq}:{prev}".encode()


async def drain(subscription: Subscription) -> Batch:
    """What is due now, without waiting."""
    return await subscription.next(0)


class Client:
    """The rule of console design 15.3: prev must be the last number held."""

    def __init__(self, held: int) -> None:
        self.held = held
        self.numbers: list[int] = []

    def take(self, wire: list[bytes]) -> None:
        for message in wire:
            _, seq, prev = message.decode().split(":")
            if prev == "None":
                assert int(seq) == self.held, "a copy ahead of its turn repeats the held number"
                continue
            assert int(prev) == self.held, "a hole that is none"
            self.held = int(seq)
            self.numbers.append(self.held)


async def test_events_are_numbered_in_order_and_fixes_are_not() -> None:
    """Only event-lane messages advance seq; a subscriber gets them in order, once."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    bus.publish(link())
    bus.publish(fix())
    bus.publish(staged())
    batch = await drain(watcher)
    assert [seq for seq, _ in batch.events] == [1, 2]
    assert batch.fixes == [fix()]
    assert batch.held == 2
    assert (await drain(watcher)) == Batch([], [], [], 2)


async def test_filtering_makes_no_holes() -> None:
    """prev is the number before it that this viewer was due, not the number before it."""
    bus = EventBus(FakeClock(), project=only_links)
    watcher = bus.subscribe(CONSOLE, encode=encode)
    for event in (staged(), link(), staged(), staged(), link(), link()):
        bus.publish(event)
    assert (await drain(watcher)).wire == [
        b"LinkChanged:2:0",
        b"LinkChanged:5:2",
        b"LinkChanged:6:5",
    ]


async def test_the_snapshots_number_is_the_last_one_due() -> None:
    """A snapshot's seq is the prev of the next due event, also when undue ones came after it."""
    bus = EventBus(FakeClock(), project=only_links)
    bus.publish(link())
    bus.publish(staged())
    seq = bus.position(CONSOLE)
    assert seq == 1
    bus.publish(staged())
    watcher = bus.subscribe(CONSOLE, after=seq, encode=encode)
    bus.publish(link())
    assert (await drain(watcher)).wire == [b"LinkChanged:4:1"]


async def test_two_of_one_group_at_different_places_see_one_chain() -> None:
    """The one who lags and the one who keeps up get the same messages, encoded once."""
    calls: list[int] = []

    def counted(event: Event, seq: int, prev: int | None) -> bytes:
        calls.append(seq)
        return encode(event, seq, prev)

    bus = EventBus(FakeClock(), project=only_links)
    quick = bus.subscribe(CONSOLE, encode=counted)
    late = bus.subscribe(Viewer("c2", "console", ALL), encode=counted)
    first, second = Client(0), Client(0)
    for _ in range(3):
        bus.publish(staged())
        bus.publish(link())
        first.take((await drain(quick)).wire)
    second.take((await drain(late)).wire)
    assert first.numbers == second.numbers == [2, 4, 6]
    assert calls == [2, 4, 6], "one encoding for the group"


async def test_one_projection_for_a_group_and_another_for_other_rights() -> None:
    """Viewers of equal rights share a projection; others have their own, in the same moment."""
    seen: list[str] = []

    def project(viewer: Viewer, event: Event) -> Event | None:
        seen.append(viewer.kind)
        return visible(viewer, event)

    bus = EventBus(FakeClock(), project=project)
    consoles = [bus.subscribe(Viewer(f"c{i}", "console", ALL)) for i in range(5)]
    wall = bus.subscribe(Viewer("w", "wall", frozenset({"identity"})))
    bus.publish(done())
    shown = [(await drain(console)).events[0][1] for console in consoles]
    blind = (await drain(wall)).events[0][1]
    assert sorted(seen) == ["console", "wall"]
    assert all(isinstance(each, CheckDone) and each.danger == ("WEAPONS",) for each in shown)
    assert isinstance(blind, CheckDone)
    assert (blind.result_class, blind.danger) == ("", ())


@pytest.mark.parametrize("other", [{"agency": "council"}, {"areas": frozenset({"Eastern"})}])
async def test_viewers_of_another_agency_or_area_have_a_projection_of_their_own(
    other: dict[str, Any],
) -> None:
    """Equal rights are not enough: what one may see by place must not be shown to the other."""
    seen: list[str] = []

    def project(viewer: Viewer, event: Event) -> Event | None:
        seen.append(viewer.id)
        return event

    bus = EventBus(FakeClock(), project=project)
    mine, theirs = CONSOLE, msgspec.structs.replace(CONSOLE, id="c2", **other)
    subscriptions = [bus.subscribe(viewer) for viewer in (mine, theirs)]
    bus.publish(done())
    for subscription in subscriptions:
        assert len((await drain(subscription)).events) == 1
    assert sorted(seen) == ["c1", "c2"]


async def test_resume_brings_what_was_missed_and_all_positions() -> None:
    """Coming back with the last number held: the missing events, then every present position."""
    bus = EventBus(FakeClock())
    first = bus.subscribe(CONSOLE, encode=encode)
    bus.publish(link())
    bus.publish(fix("4001"))
    bus.publish(fix("4002"))
    client = Client(0)
    client.take((await drain(first)).wire)
    first.close()
    bus.publish(link())
    bus.publish(link())
    again = bus.subscribe(CONSOLE, after=client.held, encode=encode)
    batch = await drain(again)
    assert batch.reset is None
    client.take(batch.wire)
    assert client.numbers == [1, 2, 3]
    assert {f.terminal for f in batch.fixes} == {"4001", "4002"}


@pytest.mark.parametrize("after", [1, 99])
async def test_what_is_no_longer_kept_or_never_was_is_a_gap(after: int) -> None:
    """A number older than the ring, or from the future, gets a reset and no events."""
    bus = EventBus(FakeClock(), keep_events=3)
    for _ in range(9):
        bus.publish(link())
    batch = await drain(bus.subscribe(CONSOLE, after=after))
    assert (batch.reset, batch.events) == ("gap", [])


async def test_the_oldest_that_is_kept_can_still_be_resumed() -> None:
    """Holding the number just before the ring's oldest misses nothing."""
    bus = EventBus(FakeClock(), keep_events=3)
    for _ in range(9):
        bus.publish(link())
    batch = await drain(bus.subscribe(CONSOLE, after=6, encode=encode))
    assert batch.wire == [b"LinkChanged:7:6", b"LinkChanged:8:7", b"LinkChanged:9:8"]


async def test_events_are_kept_for_a_time() -> None:
    """After keep_s an event cannot be had any more; what is younger can."""
    clock = FakeClock()
    bus = EventBus(clock, keep_s=120)
    bus.publish(link())
    await clock.advance(119)
    bus.publish(link())
    await clock.advance(2)
    bus.publish(link())
    assert (await drain(bus.subscribe(CONSOLE, after=0))).reset == "gap"
    assert len((await drain(bus.subscribe(CONSOLE, after=1))).events) == 2


async def test_overflow_cuts_the_slow_one_only() -> None:
    """Whoever is further behind than the ring is told so; the others and the publisher go on."""
    bus = EventBus(FakeClock(), keep_events=1000)
    slow = bus.subscribe(CONSOLE, encode=encode)
    quick = bus.subscribe(Viewer("c2", "console", ALL), encode=encode)
    got = 0
    for _ in range(5000):
        bus.publish(link())
        got += len((await drain(quick)).wire)
    assert got == 5000
    batch = await drain(slow)
    assert (batch.reset, batch.wire) == ("overflow", [])
    bus.publish(link())
    batch = await drain(slow)
    assert batch.wire == [b"LinkChanged:5001:5000"], "after the reset it stands at the present"


async def test_nobody_drains_and_memory_stays() -> None:
    """With subscribers that never read, the ring and the fixes stay at their bounds."""
    bus = EventBus(FakeClock(), keep_events=100)
    asleep = bus.subscribe(CONSOLE, encode=encode)
    for n in range(1000):
        bus.publish(link())
        bus.publish(fix(str(n % 7)))
    assert bus.seq - bus.oldest + 1 == 100
    assert len(bus.fixes_after(0)) == 7
    assert (await drain(asleep)).reset == "overflow"


async def test_the_byte_cap_cuts_who_is_behind_it() -> None:
    """A group's encoded log is bounded in bytes; who still needed the oldest gets a reset."""
    bus = EventBus(FakeClock(), keep_bytes=1000)
    slow = bus.subscribe(CONSOLE, encode=encode)
    quick = bus.subscribe(Viewer("c2", "console", ALL), encode=encode)
    for _ in range(200):
        bus.publish(link())
    client = Client(0)
    client.take((await drain(quick)).wire)
    assert len(client.numbers) == 200
    assert (await drain(slow)).reset == "overflow"


async def test_fixes_conflate_and_the_lost_are_counted() -> None:
    """Only the newest fix per terminal is handed over, and how many it replaced is said."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    bus.publish(fix("4001"))
    await drain(watcher)
    for n in range(10):
        bus.publish(fix("4001", lat=52.0 + n))
        bus.publish(fix("4002", lat=51.0 + n))
    batch = await drain(watcher)
    assert [(f.terminal, f.lat) for f in batch.fixes] == [("4001", 61.0), ("4002", 60.0)]
    assert batch.conflated == 18


async def test_fixes_can_be_left_for_later() -> None:
    """A caller that paces positions is not woken by them and misses none."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    bus.publish(fix())
    assert (await watcher.next(0, fixes=False)).fixes == []
    waiting = asyncio.create_task(watcher.next(30, fixes=False))
    await settle()
    bus.publish(fix("4002"))
    await settle()
    assert not waiting.done()
    bus.publish(link())
    assert len((await waiting).events) == 1
    assert len((await drain(watcher)).fixes) == 2


async def test_who_logs_off_leaves_no_position() -> None:
    """A unit that is gone is not among the positions a newcomer gets."""
    bus = EventBus(FakeClock())
    bus.publish(fix("4001"))
    bus.publish(UnitMeta("4001", "S-1", "po", "S", "handheld", "OFF", 1, gone=True))
    assert (await drain(bus.subscribe(CONSOLE, after=0))).fixes == []


async def test_whoever_is_behind_leaves_the_loop_its_turns() -> None:
    """Batch by batch: thousands of events that wait are no reason to hold the radios' loop."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    for _ in range(4 * BATCH_EVENTS):
        bus.publish(staged())
    batches, at_turn = 0, []

    async def read() -> None:
        nonlocal batches
        for _ in range(4):
            await watcher.next()
            batches += 1

    reading = asyncio.ensure_future(read())
    while not reading.done():
        await asyncio.sleep(0)
        at_turn.append(batches)
    assert at_turn[:4] == [1, 2, 3, 4]


async def test_an_emergency_goes_ahead_and_still_has_its_turn() -> None:
    """On the wire it comes first as a copy that moves no number, then in its place: no hole, and
    a client that breaks off in between loses nothing."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE, encode=encode)
    for _ in range(BATCH_EVENTS + 10):
        bus.publish(staged())
    bus.publish(emergency())
    client = Client(0)
    batch = await drain(watcher)
    assert batch.wire[0] == b"UnitEmergency:0:None"
    assert batch.events[0][1] == emergency()
    assert batch.behind == 11
    client.take(batch.wire)
    assert client.held == BATCH_EVENTS
    rest = await drain(watcher)
    client.take(rest.wire)
    assert client.numbers == list(range(1, BATCH_EVENTS + 12))
    assert not any(isinstance(event, UnitEmergency) for _, event in rest.events), "once in events"


async def test_an_emergency_in_its_turn_is_not_sent_twice() -> None:
    """Nothing waits before it, so no copy is needed."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE, encode=encode)
    bus.publish(emergency())
    assert (await drain(watcher)).wire == [b"UnitEmergency:1:0"]


async def test_a_waiting_subscriber_is_woken_by_what_is_due() -> None:
    """`next` returns on the event, not on its timeout; an undue one does not end the wait."""
    bus = EventBus(FakeClock(), project=only_links)
    watcher = bus.subscribe(CONSOLE)
    waiting = asyncio.create_task(watcher.next(30))
    await settle()
    bus.publish(staged())
    await settle()
    assert not waiting.done()
    bus.publish(link())
    assert len((await asyncio.wait_for(waiting, 5)).events) == 1


async def test_a_wait_ends_with_its_deadline() -> None:
    """With nothing due, `next` comes back empty: the caller can beat its heart."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    assert await asyncio.wait_for(watcher.next(0.01), 5) == Batch([], [], [], 0)


async def test_a_cancelled_wait_loses_nothing() -> None:
    """The place in the stream moves only when a batch is handed over."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    waiting = asyncio.create_task(watcher.next(30))
    await settle()
    bus.publish(link())
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len((await drain(watcher)).events) == 1


async def test_close_ends_a_wait_and_the_subscription() -> None:
    """Closing from another task wakes the one that waits, and the bus forgets it."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    waiting = asyncio.create_task(watcher.next(30))
    await settle()
    assert bus.subscribers == 1
    bus.close()
    assert (await asyncio.wait_for(waiting, 5)).closed
    assert (await watcher.next(30)).closed
    assert bus.subscribers == 0


async def test_one_task_at_a_time() -> None:
    """Two waits on one subscription are a defect and say so."""
    bus = EventBus(FakeClock())
    watcher = bus.subscribe(CONSOLE)
    waiting = asyncio.create_task(watcher.next(30))
    await settle()
    with pytest.raises(RuntimeError):
        await watcher.next(0)
    watcher.close()
    await waiting


async def test_an_observer_that_raises_stops_nothing() -> None:
    """It is counted; the other observers and the subscribers get the event."""
    meter = FakeMeter()
    bus = EventBus(FakeClock(), meter=meter)
    heard: list[Event] = []

    def faulty(event: Event) -> None:
        raise ValueError("boom")

    bus.tap(faulty)
    bus.tap(heard.append)
    watcher = bus.subscribe(CONSOLE)
    bus.publish(link())
    bus.publish(fix())
    assert heard == [link(), fix()]
    assert len((await drain(watcher)).events) == 1
    assert meter.total("task_restarts_total", task="observer") == 2


async def test_a_policy_that_raises_shows_nothing() -> None:
    """Default deny: what the policy cannot judge is not sent, and counted."""
    meter = FakeMeter()

    def faulty(viewer: Viewer, event: Event) -> Event | None:
        if isinstance(event, CheckStaged):
            raise KeyError("no rule")
        return event

    bus = EventBus(FakeClock(), project=faulty, meter=meter)
    watcher = bus.subscribe(CONSOLE)
    bus.publish(staged())
    bus.publish(link())
    assert [event for _, event in (await drain(watcher)).events] == [link()]
    assert meter.total("task_restarts_total", task="observer") == 1


async def test_the_policy_of_the_moment_of_sending_counts() -> None:
    """A right that is taken while an event waits is gone when it is drained, cached or not."""
    allowed = True

    def project(viewer: Viewer, event: Event) -> Event | None:
        return event if allowed or isinstance(event, LinkChanged) else None

    bus = EventBus(FakeClock(), project=project)
    quick = bus.subscribe(CONSOLE)
    slow = bus.subscribe(Viewer("c2", "console", ALL))
    bus.publish(done())
    assert len((await drain(quick)).events) == 1
    allowed = False
    bus.policy_changed()
    batch = await drain(slow)
    assert (batch.reset, batch.events) == ("policy", [])
    bus.publish(done())
    bus.publish(link())
    assert [event for _, event in (await drain(slow)).events] == [link()]
    assert (await drain(quick)).reset == "policy"


async def test_publishing_is_constant_work_whatever_waits() -> None:
    """With 300 subscribers waiting, a publish schedules one callback, not one for each."""
    bus = EventBus(FakeClock())
    watchers = [bus.subscribe(Viewer(f"c{n}", "console", ALL)) for n in range(300)]
    tasks = [asyncio.create_task(each.next(30)) for each in watchers]
    await settle()
    loop = asyncio.get_running_loop()
    scheduled = 0
    original = loop.call_soon

    def counting(*args: object, **kwargs: object) -> asyncio.Handle:
        nonlocal scheduled
        scheduled += 1
        return original(*args, **kwargs)  # type: ignore[arg-type]

    loop.call_soon = counting  # type: ignore[method-assign]
    try:
        for _ in range(50):
            bus.publish(link())
    finally:
        loop.call_soon = original  # type: ignore[method-assign]
    assert scheduled == 1
    for batch in await asyncio.gather(*tasks):
        assert len(batch.events) == 50


EVENTS: list[Event] = [link(), staged(), fix(), emergency()]


@pytest.mark.parametrize("seed", range(20))
async def test_any_history_leaves_no_hole_or_says_reset(seed: int) -> None:
    """Random publishing, draining, breaking off and coming back in one group: each client has
    exactly the due numbers since its last reset, and prev never lies."""
    rng = random.Random(seed)
    clock = FakeClock()
    bus = EventBus(clock, keep_events=10, project=only_links)
    due: list[int] = []
    clients: list[tuple[Client, Subscription, list[int]]] = []

    def join() -> tuple[Client, Subscription, list[int]]:
        seq = bus.position(CONSOLE)
        return Client(seq), bus.subscribe(CONSOLE, after=seq, encode=encode), [seq]

    for _ in range(4):
        clients.append(join())
    for _ in range(600):
        roll = rng.random()
        if roll < 0.6:
            event: Event = rng.choice(EVENTS)
            bus.publish(event)
            if isinstance(event, LinkChanged):
                due.append(bus.seq)
        else:
            place = rng.randrange(len(clients))
            client, subscription, since = clients[place]
            if roll < 0.65:  # breaks off, comes back with what it holds
                subscription.close()
                subscription = bus.subscribe(CONSOLE, after=client.held, encode=encode)
                clients[place] = (client, subscription, since)
            batch = await drain(subscription)
            if batch.reset is not None:
                subscription.close()
                clients[place] = join()
            else:
                client.take(batch.wire)
                expected = [n for n in due if since[0] < n <= client.held]
                assert client.numbers == expected
                assert batch.held == client.held
    for client, subscription, since in clients:
        batch = await drain(subscription)
        if batch.reset is None:
            client.take(batch.wire)
            assert client.numbers == [n for n in due if n > since[0]]


def test_visible_takes_out_what_is_not_granted() -> None:
    """Every right, one by one: without it the thing it stands for is not in the event."""

    def see(event: Event, *rights: str) -> Event | None:
        return visible(Viewer("v", "v", frozenset(rights)), event)

    assert see(fix(), "position") is None
    assert see(fix(), "identity") is None
    assert see(fix(), "position", "identity") == fix()
    meta = UnitMeta("4001", "S-1", "po", "S", "handheld", "AVL", 1)
    assert see(meta) is None
    assert see(meta, "identity") == msgspec.structs.replace(meta, callsign="")
    assert see(meta, "identity", "callsign") == meta
    assert see(emergency(), "identity") is None
    poor = see(emergency(), "identity", "emergency")
    assert isinstance(poor, UnitEmergency)
    assert (poor.lat, poor.lon, poor.fix_age_s) == (None, None, None)
    assert see(done()) is None
    blind = see(done(), "identity")
    assert isinstance(blind, CheckDone)
    assert (blind.result_class, blind.danger, blind.not_checked) == ("", (), ())
    assert (blind.parts, blind.level, blind.terminal) == (0, "", done().terminal)
    assert see(done(), "class", "identity") == done()
    of_checks = [(rule, "class") for rule in ("DNR", "DUR", "CHX", "CHO")]
    for rule, right in (("EMG", "emergency"), *of_checks):
        alarm = AlarmChanged("A1", rule, 1, "unack-active", 1, 1)
        assert see(alarm) is None
        assert see(alarm, right, "identity") == alarm
    opened = CheckOpened("C7F3", "01X", "4001", Kind.VEHICLE, 1, 2)
    assert see(opened) is None
    assert see(opened, "identity") == opened
    note = Noticed(kind="late", t_ms=1, terminal="4001")
    assert see(note) is None
    assert see(note, "class") == msgspec.structs.replace(note, terminal="")
    assert see(link()) == link()
    others: list[tuple[Event, str]] = [
        (ReleaseChanged("C7F3", "01X", "4001", "L1", "SAFETY: CAUTION+", "held", 1, 1), "release"),
        (MessageChanged("M1", "7F3C", "4001", "sent", 1), "message"),
        (ChallengeChanged("C7F3", "01X", "4001", "open", 2, 1), "supervise"),
    ]
    all_but = {right: frozenset(RIGHTS) - {right} for _, right in others}
    for event, right in others:
        assert see(event, *all_but[right]) is None
        assert see(event, right) == msgspec.structs.replace(event, terminal="")
        assert see(event, right, "identity") == event
    assert see(PolicyChanged("2026-12", 1)) == PolicyChanged("2026-12", 1)


async def test_what_is_the_supervisors_alone_is_due_to_nobody_else() -> None:
    """No console of an operator, no relay; what escalated to supervisors stays everybody's."""
    alarm = AlarmChanged("A1", "RVL", 3, "unack-active", 0, 0, audience="supervisor")
    above = msgspec.structs.replace(CONSOLE, rights=ALL | {"supervise"})
    assert visible(CONSOLE, alarm) is None
    assert visible(above, alarm) == alarm
    escalated = msgspec.structs.replace(alarm, audience="everybody")
    assert visible(CONSOLE, escalated) == escalated
