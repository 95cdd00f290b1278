"""The demo's feed: golden lines, 80 columns, no subject data, honest percentiles."""

from __future__ import annotations

import datetime
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.messages import (
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    Kind,
    LinkChanged,
    LinkState,
    Noticed,
    Outcome,
    UnitEmergency,
    UnitMeta,
)
from simulators.feed import WIDTH, Count, Feed, format_event, percentile

T = 1_795_325_047_120
CALLSIGNS = {"5001001": "E-101", "5001005": "N-201"}
KINDS = {"01C7F3": Kind.VEHICLE}
WHO = {"short": "C7F3", "check": "01C7F3", "terminal": "5001001"}


def line(event: Event) -> str | None:
    shown = format_event(event, callsigns=CALLSIGNS, kinds=KINDS, zone=datetime.UTC)
    return None if shown is None else shown.text


def done(outcome: Outcome, result_class: str = "", danger: tuple[str, ...] = ()) -> CheckDone:
    return CheckDone(
        **WHO,
        kind=Kind.VEHICLE,
        outcome=outcome,
        result_class=result_class,
        danger=danger,
        parts=1,
        not_checked=(),
        level="L4",
        t_ms=T,
        elapsed_s=0.1424,
        overhead_s=0.00312,
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            CheckOpened(**WHO, kind=Kind.VEHICLE, opened_ms=T, deadline_ms=T + 6000),
            "05:24:07 E-101  VEH C7F3 asked",
        ),
        (CheckStaged(**WHO, stage="pnc", t_ms=T), "05:24:07 E-101  VEH C7F3 at the PNC"),
        (CheckStaged(**WHO, stage="retry", t_ms=T), "05:24:07 E-101  VEH C7F3 retry"),
        (CheckStaged(**WHO, stage="disclosing", t_ms=T), None),
        (
            done(Outcome.ANSWERED, "HIT_STOLEN", ("STOLEN",)),
            "05:24:07 E-101  VEH C7F3 ANSWERED HIT_STOLEN STOLEN                0.142s +3.1ms",
        ),
        (
            done(Outcome.EXPIRED, "TIMEOUT"),
            "05:24:07 E-101  VEH C7F3 EXPIRED  NO ANSWER TIMEOUT                0.142s +3.1ms",
        ),
        (
            done(Outcome.REFUSED),
            "05:24:07 E-101  VEH C7F3 REFUSED                                   0.142s +3.1ms",
        ),
        (CheckDelivery(**WHO, part=1, state="sent", t_ms=T), None),
        (
            CheckDelivery(**WHO, part=1, state="read", t_ms=T),
            "05:24:07 E-101  VEH C7F3 read",
        ),
        (
            CheckDelivery(**WHO, part=1, state="failed", t_ms=T),
            "05:24:07 E-101  VEH C7F3 not delivered",
        ),
        (
            CheckDelivery(**WHO, part=1, state="stale", t_ms=T),
            "05:24:07 E-101  VEH C7F3 never delivered (too old)",
        ),
        (
            UnitEmergency(terminal="5001005", occurrence="A1", on=True, t_ms=T, lat=52.5, lon=-0.2),
            "05:24:07 N-201  EMERGENCY",
        ),
        (
            LinkChanged(
                id="serial-e-101", kind="serial", state=LinkState.DOWN, since_ms=T, detail="x"
            ),
            "05:24:07 link   serial-e-101 down",
        ),
        (
            AlarmChanged(
                id="A1",
                rule="EMG",
                priority=1,
                state="unack-active",
                raised_ms=T,
                t_ms=T,
                terminal="5001001",
            ),
            "05:24:07 E-101  alarm EMG unack-active",
        ),
        (Noticed(kind="late", t_ms=T, short="C7F3"), "05:24:07        notice late C7F3"),
        (
            UnitMeta(
                terminal="5001001",
                callsign="E-101",
                agency="police",
                area="Eastern",
                device_class="handheld",
                status="AVL",
                t_ms=T,
            ),
            None,
        ),
    ],
)
def test_golden_lines(event: Event, expected: str | None) -> None:
    """Each happening is one line that names time, call-sign, kind, stage or outcome, and time."""
    assert line(event) == expected


@given(
    outcome=st.sampled_from(list(Outcome)),
    danger=st.lists(st.text("ABCDEFGHIJ", max_size=18), max_size=6),
    elapsed_s=st.floats(0, 99999, allow_nan=False),
    overhead_s=st.none() | st.floats(0, 9999, allow_nan=False),
)
def test_never_wider_than_the_terminal(
    outcome: Outcome, danger: list[str], elapsed_s: float, overhead_s: float | None
) -> None:
    """80 columns suffice, and how long it took is never the part that is cut away."""
    event = CheckDone(
        short="C7F3",
        check="x",
        terminal="5001001",
        kind=Kind.PROPERTY,
        outcome=outcome,
        result_class="HIT_CRITICAL",
        danger=tuple(danger),
        parts=4,
        not_checked=(),
        level="L4",
        t_ms=T,
        elapsed_s=elapsed_s,
        overhead_s=overhead_s,
    )
    text = line(event)
    assert text is not None
    assert len(text) <= WIDTH
    assert f"{elapsed_s:.3f}s" in text


def test_danger_words_are_whole_or_left_out() -> None:
    """What does not fit is marked with `+`, never cut in the middle of a word."""
    text = line(done(Outcome.ANSWERED, "HIT_CRITICAL", ("WEAPONS", "VIOLENT", "WANTED - ARREST")))
    assert text is not None
    assert " HIT_CRITICAL WEAPONS VIOLENT + " in text
    assert "WANT" not in text


def test_no_answer_never_reads_like_an_answer() -> None:
    """Expired and failed say NO ANSWER; neither is coloured like an answer."""
    for outcome in (Outcome.EXPIRED, Outcome.FAILED):
        shown = format_event(
            done(outcome, "TIMEOUT"), callsigns=CALLSIGNS, kinds=KINDS, zone=datetime.UTC
        )
        assert shown is not None
        assert "NO ANSWER" in shown.text
        assert shown.tone == "doubt"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def feed(out: io.StringIO, *, colour: bool) -> Feed:
    return Feed(out, callsigns=CALLSIGNS, zone=datetime.UTC, colour=colour)


def test_a_screen_is_shown_row_by_row_and_no_wider() -> None:
    """A part of four lines stands as four lines behind its call-sign, a long one is folded; a
    screen with nothing on it says so."""
    out = io.StringIO()
    feed = Feed(out, callsigns=CALLSIGNS, zone=datetime.UTC, colour=False)
    feed.screen("N-201", ["SAFETY: CAUTION+\nTWO OFFICERS", "WORD " * 40])
    feed.screen("E-101", [])
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        "   N-201 1  | SAFETY: CAUTION+",
        "            | TWO OFFICERS",
        "   N-201 2  | " + "WORD " * 12 + "WORD",
    ]
    assert lines[-1] == "   E-101 1  | (nothing yet)"
    assert max(map(len, lines)) <= WIDTH


def test_pipe_gets_plain_lines_and_few_counters() -> None:
    """In a pipe: no escape codes, and the counter once in ten seconds."""
    out = io.StringIO()
    printer = feed(out, colour=False)
    printer.caption("a caption that is long enough to be wrapped because it does not fit in 80")
    for second in range(25):
        printer.counter(100.0 + second)
    printer.event(done(Outcome.ANSWERED, "HIT_STOLEN", ("STOLEN",)))
    printer.end()
    lines = out.getvalue().splitlines()
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()
    assert sum(text.startswith("--") for text in lines) == 3
    assert all(len(text) <= WIDTH for text in lines)


def test_terminal_gets_colour_and_one_live_counter() -> None:
    """On a terminal the counter is redrawn in place and captions stand out."""
    out = Screen()
    printer = feed(out, colour=True)
    printer.counter(1.0)
    printer.counter(2.0)
    printer.caption("now")
    printer.end()
    assert "\x1b[1;36m== now\x1b[0m\n" in out.getvalue()
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().count("\r\x1b[K") == 2


def test_summary_counts_each_outcome_and_says_unknown() -> None:
    """Unknown is said, never shown as zero; open checks are not lost from the sum."""
    count = Count()
    assert "unknown" in count.summary()
    for n, outcome in enumerate([Outcome.ANSWERED, Outcome.ANSWERED, Outcome.EXPIRED]):
        count.take(
            CheckOpened(
                short="C7F3",
                check=str(n),
                terminal="1",
                kind=Kind.PERSON,
                opened_ms=T,
                deadline_ms=T,
            )
        )
        count.take(done(outcome))
    count.take(
        CheckOpened(
            short="C7F4", check="z", terminal="1", kind=Kind.PERSON, opened_ms=T, deadline_ms=T
        )
    )
    count.fixes = 42
    assert count.summary().splitlines() == [
        "checks   asked 4  answered 2  refused 0  expired 1  failed 0  open 1",
        "fixes    42",
        "gateway  added p50 3.1 ms  p99 3.1 ms  (3 checks)",
    ]


def test_percentile_is_a_measured_value() -> None:
    """Nearest rank: the 99th of 100 values, the only one of one, the middle of three."""
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert percentile([7.0], 0.5) == 7.0
    assert percentile([1.0, 2.0, 9.0], 0.5) == 2.0
    with pytest.raises(ValueError):
        percentile([], 0.5)
