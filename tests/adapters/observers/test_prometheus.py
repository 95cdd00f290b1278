"""Metrics: one table, closed labels, all at 0 from the start, and every caller uses them right."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from adapters.observers import prometheus
from adapters.observers.prometheus import (
    AGENCY,
    ANCHOR,
    AREA,
    BUCKETS,
    CERT,
    FROM_EVENTS,
    LINK,
    METRICS,
    OTHER,
    OUTCOMES,
    PREFIX,
    PrometheusMeter,
    metric_outcome,
)
from gateway.check_states import Cause
from gateway.messages import AlarmChanged, CheckDone, Kind, Outcome, ResultClass
from tests.services import require

ROOT = Path(__file__).parents[3]
LINKS = {"serial-south": "serial", "mqtt-city": "mqtt"}


def meter(**changes: object) -> PrometheusMeter:
    settings = {"links": LINKS, "areas": ("E", "N", "S"), "agencies": ("po", "co"), "strict": True}
    return PrometheusMeter(**{**settings, **changes})  # type: ignore[arg-type]


def lines(made: PrometheusMeter) -> list[str]:
    return [line for line in made.render().decode().splitlines() if not line.startswith("#")]


def figure(made: PrometheusMeter, series: str) -> float:
    """The value of exactly this series."""
    for line in lines(made):
        name, _, value = line.rpartition(" ")
        if name == PREFIX + series:
            return float(value)
    raise LookupError(series)


def done(**changes: object) -> CheckDone:
    event = CheckDone(
        short="C7F3",
        check="01X",
        terminal="4001",
        kind=Kind.VEHICLE,
        outcome=Outcome.ANSWERED,
        result_class="TRACE_CLEAR",
        danger=(),
        parts=1,
        not_checked=(),
        level="L3",
        t_ms=1,
        elapsed_s=0.1,
        overhead_s=0.01,
    )
    return msgspec.structs.replace(event, **changes)


# --------------------------------------------------------------------------- the table


def test_every_counter_and_histogram_is_born_at_zero() -> None:
    """`increase()` cannot see a counter born at 1: each child of the closed sets is there at 0."""
    made = meter()
    assert figure(made, 'checks_completed_total{kind="person",outcome="no_trace"}') == 0
    assert figure(made, 'frames_rejected_total{link="mqtt-city",reason="retained"}') == 0
    assert figure(made, 'check_stage_duration_seconds_count{stage="pnc"}') == 0
    for metric in METRICS:
        if metric.type != "gauge":
            suffix = "_count" if metric.type == "histogram" else ""
            stem = PREFIX + metric.name + suffix
            found = [line for line in lines(made) if re.match(rf"{stem}[{{ ]", line)]
            assert found, metric.name
            assert all(line.endswith(" 0.0") for line in found)


def test_a_gauge_that_was_never_taken_is_absent() -> None:
    """Unknown is never 0: it appears with its first figure."""
    made = meter()
    assert not [line for line in lines(made) if line.startswith("gateway_audit_chain_ok")]
    made.gauge("audit_chain_ok", 1)
    assert figure(made, "audit_chain_ok") == 1


def test_a_link_has_only_its_own_kind() -> None:
    """link_up exists once for each configured link, with the kind that it is."""
    found = [line for line in lines(meter()) if line.startswith("gateway_link_up{")]
    assert found == [
        'gateway_link_up{kind="serial",link="serial-south"} 0.0',
        'gateway_link_up{kind="mqtt",link="mqtt-city"} 0.0',
    ]


def test_the_buckets_are_powers_of_two_and_carry_the_objectives() -> None:
    """Edges as ops fixed them; `le` reads "2.0"."""
    assert BUCKETS[:7] == (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
    assert BUCKETS[7:] == (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32)
    assert 'gateway_check_answer_latency_seconds_bucket{kind="vehicle",le="2.0"} 0.0' in lines(
        meter()
    )


def test_the_series_do_not_grow_with_the_terminals() -> None:
    """10 terminals or 2,000, the scrape has equally many series, and few enough."""

    def run(terminals: int) -> int:
        made = meter(strict=False)
        for n in range(terminals):
            made.count("frames_received_total", link="mqtt-city", type="fix")
            made.count("checks_received_total", kind="vehicle", agency=f"x{n}", area=f"y{n}")
            made.seen(done(terminal=str(n), check=f"01X{n}"))
            made.seen(AlarmChanged(f"A{n}", "EMG", 1, "unack-active", 1, 1, terminal=str(n)))
            made.observe("check_answer_latency_seconds", n / 1000, kind="vehicle")
        return len(lines(made))

    few, many = run(10), run(2000)
    assert few == many
    assert many <= 1500


def test_nothing_personal_can_be_a_label() -> None:
    """An identity given as a label value comes out as `other`, and nowhere else."""
    made = meter()
    made.count("frames_received_total", link="TE99ABC", type="4001")
    made.gauge("units", 1, area="SMITH", band="live")
    text = made.render().decode()
    # As a label's value: a figure may hold the digits by chance.
    assert not re.search(r'TE99ABC|"4001"|SMITH', text)
    assert figure(made, 'frames_received_total{link="other",type="other"}') == 1


def test_unknown_names_and_labels_raise_in_tests_and_are_counted_in_production() -> None:
    """A defect is loud on a desk and never stops a radio."""
    strict, lax = meter(), meter(strict=False)
    calls: tuple[Callable[[PrometheusMeter], None], ...] = (
        lambda m: m.count("no_such_total"),
        lambda m: m.count("link_up", link="a", kind="serial"),
        lambda m: m.observe("pnc_retries_total", 1.0),
        lambda m: m.gauge("pnc_retries_total", 1.0),
        lambda m: m.count("pnc_retries_total", link="a"),
        lambda m: m.count("hits_total"),
        lambda m: m.gauge("units", 1, area="S", bands="live"),
    )
    for call in calls:
        with pytest.raises(ValueError):
            call(strict)
        call(lax)
    assert figure(lax, 'metric_errors_total{reason="name"}') == 4
    assert figure(lax, 'metric_errors_total{reason="labels"}') == 3


def test_labels_may_be_given_in_any_order() -> None:
    """The child is found by label name, not by place, also when it is cached."""
    made = meter()
    for _ in range(2):
        made.count("frames_received_total", type="fix", link="mqtt-city")
        made.count("frames_received_total", link="mqtt-city", type="fix")
    assert figure(made, 'frames_received_total{link="mqtt-city",type="fix"}') == 4


def test_promtool_reads_what_we_say(tmp_path: Path) -> None:
    """Prometheus' own checker accepts the exposition."""
    import subprocess

    promtool = require("promtool")
    made = meter()
    made.gauge("units", 3, area="S", band="live")
    run = subprocess.run(
        [promtool, "check", "metrics"], input=made.render(), capture_output=True, timeout=20
    )
    complaints = [line for line in run.stderr.decode().splitlines() if "gateway_" in line]
    assert complaints == []
    assert run.returncode in (0, 3)  # 3: lint of python_gc_*, which are not ours


# --------------------------------------------------------------------------- from events


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        *(({"result_class": c.value}, "trace") for c in ResultClass if c.value.startswith("HIT_")),
        ({"result_class": "TRACE_INFO"}, "trace"),
        ({"result_class": "MULTIPLE"}, "trace"),
        ({"result_class": "NO_TRACE"}, "no_trace"),
        ({"result_class": "PARTIAL"}, "partial"),
        ({"outcome": Outcome.REFUSED, "result_class": "DENIED"}, "refused"),
        ({"outcome": Outcome.REFUSED, "cause": "CANCELLED"}, "cancelled"),
        ({"outcome": Outcome.EXPIRED, "result_class": "TIMEOUT"}, "expired"),
        ({"outcome": Outcome.FAILED, "cause": "PNC LINK DOWN"}, "pnc_error"),
        ({"outcome": Outcome.FAILED, "cause": "PNC ERROR"}, "pnc_error"),
        ({"outcome": Outcome.FAILED, "cause": "CANNOT RECORD"}, "internal_error"),
        ({"outcome": Outcome.FAILED, "cause": ""}, "internal_error"),
    ],
)
def test_a_check_that_ended_is_counted_by_its_outcome(
    changes: dict[str, object], outcome: str
) -> None:
    """The mapping of the domain reference; no answer is never a no-trace."""
    made = meter()
    made.seen(done(**changes))
    assert figure(made, f'checks_completed_total{{kind="vehicle",outcome="{outcome}"}}') == 1


def test_no_answer_is_never_no_trace_whatever_it_carries() -> None:
    """Every outcome but ANSWERED, with every class and cause: never trace, no_trace, partial."""
    for outcome in (Outcome.REFUSED, Outcome.EXPIRED, Outcome.FAILED):
        for result_class in ["", *ResultClass]:
            for cause in Cause:
                event = done(outcome=outcome, result_class=str(result_class), cause=cause.value)
                said = metric_outcome(event)
                assert said in OUTCOMES
                assert said not in ("trace", "no_trace", "partial")


def test_the_causes_of_the_pnc_are_words_the_state_machine_has() -> None:
    """The words this mapping reads are those that checks are ended with."""
    assert set(prometheus.PNC_CAUSES) <= {cause.value for cause in Cause}
    assert Cause.CANCELLED.value == "CANCELLED"


def test_alarms_are_followed_through_their_life() -> None:
    """Raised once, active by state, acknowledged with its latency, gone when cleared."""
    now_s = [100.0]
    made = meter(monotonic_s=lambda: now_s[0])
    alarm = AlarmChanged("A1", "EMG", 1, "unack-active", 1, 1)
    made.seen(alarm)
    made.seen(msgspec.structs.replace(alarm, count=2))
    assert figure(made, 'alarms_raised_total{priority="1",rule="EMG"}') == 1
    assert figure(made, 'alarms_active{priority="1",state="unack-active"}') == 1
    now_s[0] = 103.0
    made.seen(msgspec.structs.replace(alarm, state="ack-active"))
    assert figure(made, 'alarms_active{priority="1",state="unack-active"}') == 0
    assert figure(made, 'alarms_active{priority="1",state="ack-active"}') == 1
    assert figure(made, 'alarm_ack_latency_seconds_sum{priority="1"}') == 3.0
    assert figure(made, "emergency_ack_latency_seconds_sum") == 3.0
    made.seen(msgspec.structs.replace(alarm, state="cleared"))
    assert figure(made, 'alarms_active{priority="1",state="ack-active"}') == 0
    assert made._alarms == {}


# --------------------------------------------------------------------------- the callers


def calls_of(*methods: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of such a method on something named meter, in our sources."""
    owners = {"meter", "_meter"}
    for folder in ("gateway", "adapters", "simulators"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                of = node.func.value
                name = of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")
                if node.func.attr in methods and name in owners:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


TYPES = {"count": "counter", "observe": "histogram", "gauge": "gauge"}
TABLE = {metric.name: metric for metric in METRICS}


def constants(node: ast.expr) -> list[str] | None:
    """The texts this expression can be, as far as they stand there."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.IfExp):
        left, right = constants(node.body), constants(node.orelse)
        return left + right if left is not None and right is not None else None
    return None


def test_every_figure_in_the_source_is_in_the_table() -> None:
    """Name, type, label names and label words of each call; so none is lost or `other` unseen."""
    seen: set[str] = set()
    faults: list[str] = []
    for where, call in calls_of("count", "observe", "gauge"):
        assert isinstance(call.func, ast.Attribute)
        names = constants(call.args[0]) if call.args else None
        if names is None:
            faults.append(f"{where}: the name is not written out")
            continue
        for name in names:
            metric = TABLE.get(name)
            if metric is None or metric.type != TYPES[call.func.attr]:
                faults.append(f"{where}: no {TYPES[call.func.attr]} {name}")
                continue
            seen.add(name)
            given = {word.arg for word in call.keywords}
            if None not in given and given != set(metric.labels):
                faults.append(f"{where}: {name} has labels {set(metric.labels)}, not {given}")
            for word in call.keywords:
                closed = metric.labels.get(word.arg or "", ())
                if isinstance(closed, str):
                    continue
                for value in constants(word.value) or []:
                    if value not in closed and value != OTHER:
                        faults.append(f"{where}: {name}: {word.arg}={value} is not in its set")
    assert faults == []
    assert {"checks_received_total", "console_streams"} <= seen, "the search finds calls"


def test_what_events_count_nobody_else_counts() -> None:
    """A figure taken from the bus is taken there alone: nothing counts twice."""
    twice = [
        where
        for where, call in calls_of("count", "observe", "gauge")
        if set(constants(call.args[0]) or []) & FROM_EVENTS
    ]
    assert twice == []


def test_the_documentation_says_what_the_table_says() -> None:
    """docs/metrics.md: the same names, types and labels, none more and none less."""
    text = (ROOT / "docs/metrics.md").read_text()
    documented = {
        (name, type_, tuple(filter(None, re.split(r"[ ,`]+", labels))))
        for name, type_, labels in re.findall(
            r"^\| `gateway_(\w+)` \| (counter|gauge|histogram) \| ([^|]*)\|", text, re.MULTILINE
        )
    }
    table = {(m.name, m.type, tuple(m.labels)) for m in METRICS}
    table.add(("build_info", "gauge", ("version", "commit", "python")))
    assert documented == table


def test_the_configured_sets_are_only_those() -> None:
    """A label set named by a word comes from the configuration; the rest stands in the table."""
    named = {v for m in METRICS for v in m.labels.values() if isinstance(v, str)}
    assert named == {LINK, AREA, AGENCY, CERT, ANCHOR}
