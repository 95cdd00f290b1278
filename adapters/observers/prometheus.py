"""Every metric there is, in one table; children born at 0, labels from closed sets.

`PrometheusMeter` is the Meter port over prometheus-client with a registry of its own. Names and
label rules: design ops.md, 1 and 2; docs/metrics.md says the same to whoever reads them.
"""

from __future__ import annotations

import itertools
import platform
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.alarm_rules import COVERT
from gateway.limits import Scope, Traffic
from gateway.messages import (
    FIX_REASONS,
    FRAME_REASONS,
    AlarmChanged,
    CheckDone,
    Event,
    FixSource,
    Kind,
    Level,
    LinkState,
    Outcome,
    ResultClass,
    Suspicion,
)
from gateway.ports import AUDIT_EVENTS

PREFIX = "gateway_"
OTHER = "other"
BUCKETS = tuple(2.0**n / 1000 for n in range(7)) + tuple(2.0**n for n in range(-3, 6))
"""0.001 ... 0.064, 0.125 ... 32 s: objectives lie on edges (design ops.md, 1.4)."""

LINK, AREA, AGENCY, CERT, ANCHOR = "@link", "@area", "@agency", "@cert", "@anchor"
"""Sets that come from the configuration."""

KINDS = tuple(kind.value for kind in Kind)
LINK_KINDS = ("serial", "mqtt", "tetra", "gpsd", "http", "relay", "pnc", "register")
STAGES = (
    "decode",
    "authorise",
    "queue",
    "pnc",
    "project",
    "audit",
    "format",
    "send",
    "deliver",
    "read",
)
OUTCOMES = (
    "trace",
    "no_trace",
    "partial",
    "refused",
    "cancelled",
    "expired",
    "pnc_error",
    "internal_error",
)
RULES = (
    *("EMG", "DNR", "DUR", "CHX", "CHO", "PNC", "LNK", "SIL"),
    *("SEM", "WEL", "AUD", "AUP", "REJ", "RVL", "SKW", "STR", "SND", "COV", "HNR"),
)
"""Console design, 7, COV, AUP and HNR; an id that a force adds in alarms.toml counts as other."""
PRIORITIES = ("1", "2", "3")
BANDS = ("live", "aging", "stale", "lost", "none")
BEARERS = ("serial", "mqtt", "tetra", "gpsd", "http")
QUEUES = (
    *("emergency", "hit", "check", "cancel", "status", "fix"),
    *("outbox", "audit", "console", "history", "challenge", "recording"),
)
DROPS = (
    "full",
    "terminal_limit",
    "unreadable",
    "poison",
    "unreachable",
    "unavailable",
    "stale",
    "expired",
    "conflated",
    "shed",
    "slow",
    "oversize",
)
UNUSABLE = ("malformed", "truncated", "oversize", "echo", "charset", "late", "second", "stray")
UPLINKS = (
    *("fix", "check", "malformed", "status", "ack", "cancel", "help", "echo", "recall"),
    *("book_on", "book_off", "privacy", "why", "heartbeat", "ignored"),
)
DOWNLINKS = ("receipt", "result", "notice", "locate")
TASKS = (
    *("link", "switchboard", "observer", "courier", "check", "message", "emergency"),
    *("minder", "relay", "booking", "challenge"),
)
BOOKINGS = (
    *("on", "second", "off", "expired", "moved", "revoked", "overtaken"),
    *("wrong", "locked", "busy", "copy", "unrecorded", "fault"),
)
EVENT_TYPES = (
    "hb",
    "unit.batch",
    "unit.meta",
    "unit.gone",
    "unit.emergency",
    "check.open",
    "check.stage",
    "check.done",
    "check.delivery",
    "alarm",
    "link",
    "kpi",
    "notice",
    "release",
    "message",
    "challenge",
    "policy.change",
    "reset",
    "bye",
)


class Metric(NamedTuple):
    """type: counter, gauge, histogram. born: whether children stand at 0 before the first word.

    A gauge that is not born is absent until it was taken once: unknown is never 0.
    """

    name: str
    type: str
    help: str
    labels: Mapping[str, str | Sequence[str]] = {}
    born: bool = True


def _counter(name: str, help_: str, **labels: str | Sequence[str]) -> Metric:
    return Metric(name, "counter", help_, labels)


def _gauge(name: str, help_: str, born: bool, **labels: str | Sequence[str]) -> Metric:
    return Metric(name, "gauge", help_, labels, born)


def _histogram(name: str, help_: str, **labels: str | Sequence[str]) -> Metric:
    return Metric(name, "histogram", help_, labels)


METRICS: tuple[Metric, ...] = (
    # links
    _gauge("link_up", "1 while the link is up", True, link=LINK, kind=LINK_KINDS),
    _counter(
        "link_transitions_total",
        "Changes of a link's state",
        link=LINK,
        kind=LINK_KINDS,
        to=tuple(state.value for state in LinkState),
    ),
    _counter("link_refused_total", "Times that our credentials were refused", link=LINK),
    _gauge(
        "link_last_receive_timestamp_seconds",
        "When the link last received anything",
        False,
        link=LINK,
        kind=LINK_KINDS,
    ),
    _counter("link_receive_bytes_total", "Bytes received", link=LINK),
    _counter("link_send_bytes_total", "Bytes sent", link=LINK),
    _counter("frames_received_total", "Frames that were understood", link=LINK, type=UPLINKS),
    _counter("frames_rejected_total", "Frames that were refused", link=LINK, reason=FRAME_REASONS),
    _counter("frames_sent_total", "Frames handed to the bearer", link=LINK, type=DOWNLINKS),
    _counter("frame_resyncs_total", "Times a line was searched for the next frame", link=LINK),
    _counter("serial_overruns_total", "Bytes of a line given up unread", link=LINK),
    # who misbehaves
    _counter(
        "security_events_total",
        "Things that look like somebody's doing",
        link=LINK,
        reason=tuple(cause.value for cause in Suspicion),
    ),
    _counter(
        "rate_limited_total",
        "Messages beyond what a terminal, or all, may say",
        type=tuple(traffic.value for traffic in Traffic),
        scope=tuple(scope.value for scope in Scope),
    ),
    # who holds the radios
    _counter("bookings_total", "Radios taken, left and refused", result=BOOKINGS),
    _gauge("radios_booked", "Radios that somebody booked", True),
    # checks
    _counter("checks_received_total", "Checks asked for", kind=KINDS, agency=AGENCY, area=AREA),
    _counter("checks_completed_total", "Checks that ended", kind=KINDS, outcome=OUTCOMES),
    _gauge("checks_in_flight", "Checks without an outcome", True, kind=KINDS),
    _gauge(
        "check_oldest_in_flight_age_seconds", "Age of the oldest check without an outcome", True
    ),
    _histogram("check_answer_latency_seconds", "Accepted until handed to the bearer", kind=KINDS),
    _histogram(
        "check_overhead_seconds", "Answer latency less the PNC's time, per check", kind=KINDS
    ),
    _histogram("check_stage_duration_seconds", "Time in a stage of a check", stage=STAGES),
    _histogram("result_delivery_latency_seconds", "Accepted until the bearer took the result"),
    _counter(
        "result_parts_total",
        "Parts of results by what became of them",
        state=("sent", "delivered", "read", "failed", "stale"),
    ),
    _counter("result_retries_total", "Results sent again", bearer=BEARERS),
    # hits
    _counter(
        "hits_total",
        "Answers that were hits",
        **{"class": tuple(c.value for c in ResultClass if c.value.startswith("HIT_"))},
    ),
    _counter(
        "danger_results_total",
        "Answers with danger words by what became of them",
        state=("answered", "delivered", "read", "late"),
    ),
    _histogram("hit_ack_latency_seconds", "Hit answered until its officer had read it"),
    _gauge("hit_oldest_unacked_age_seconds", "Age of the oldest hit nobody has read", False),
    # PNC
    _counter(
        "pnc_requests_total",
        "Attempts at the PNC",
        op=KINDS,
        result=("ok", "error", "timeout", "invalid", "unavailable"),
    ),
    _histogram("pnc_request_duration_seconds", "Duration of an attempt", op=KINDS),
    _gauge("pnc_in_flight", "Attempts under way", True),
    _gauge(
        "pnc_circuit_state",
        "1 for the state the breaker is in",
        True,
        state=("closed", "open", "half_open"),
    ),
    _counter("pnc_retries_total", "Second and later attempts"),
    _counter(
        "pnc_unusable_replies_total",
        "Replies that nobody was shown",
        reason=UNUSABLE,
    ),
    # the vehicle register
    _counter(
        "register_requests_total",
        "Attempts at the vehicle register",
        op=("vehicle",),
        result=("ok", "error", "timeout", "invalid", "unavailable"),
    ),
    _histogram("register_request_duration_seconds", "Duration of an attempt", op=("vehicle",)),
    _gauge("register_in_flight", "Attempts under way of who asks it alone", True),
    _gauge(
        "register_circuit_state",
        "1 for the state its breaker is in",
        True,
        state=("closed", "open", "half_open"),
    ),
    _counter("register_retries_total", "Second and later attempts"),
    _counter(
        "register_unusable_replies_total",
        "Replies of the register that nobody was shown",
        reason=UNUSABLE,
    ),
    # policy
    _counter(
        "policy_decisions_total",
        "What the policy said to a question",
        level=tuple(level.value for level in Level),
        decision=("allowed", "denied", "held", "released"),
    ),
    _gauge("releases_pending", "Answers that wait for an operator to release them", True),
    _gauge("release_oldest_age_seconds", "Age of the oldest of them", False),
    # location
    _counter(
        "fixes_received_total",
        "Fixes that came in",
        kind=tuple(source.value for source in FixSource if source is not FixSource.OTHER),
    ),
    _counter("fixes_rejected_total", "Fixes that were refused", reason=FIX_REASONS),
    _counter("fix_interval_violations_total", "Fixes later than their device class promises"),
    _histogram("fix_relay_latency_seconds", "Last byte of a fix until it was published"),
    _histogram("fix_age_at_receipt_seconds", "Age of a fix when it came in"),
    _gauge("units", "Units by age of their last fix", False, area=AREA, band=BANDS),
    _gauge("terminals", "Terminals heard by bearer", False, bearer=BEARERS, band=BANDS),
    # emergency
    _counter(
        "emergencies_total",
        "Emergencies by how far they came",
        stage=("received", "relayed", "presented", "acknowledged"),
    ),
    _histogram("emergency_relay_latency_seconds", "Last byte until it was published"),
    _histogram("emergency_ack_latency_seconds", "Raised until somebody acknowledged it"),
    _gauge(
        "emergency_oldest_unacked_age_seconds", "Age of the oldest unacknowledged emergency", False
    ),
    # console
    _gauge("console_streams", "Open event streams", True),
    _counter("console_events_sent_total", "Messages written to streams", type=EVENT_TYPES),
    _counter(
        "console_resets_total",
        "Streams told to take a new snapshot, or cut",
        reason=("epoch", "gap", "overflow", "policy", "slow", "session"),
    ),
    _gauge(
        "console_lane_depth_max", "Longest queue of any stream", True, lane=("event", "position")
    ),
    _gauge("sessions_open", "Operators' sessions that are open", True),
    _counter(
        "log_ins_total",
        "Tries to log in",
        outcome=("passed", "failed", "throttled", "busy"),
    ),
    # alarms
    _counter("alarms_raised_total", "Alarms raised", rule=RULES, priority=PRIORITIES),
    _gauge(
        "alarms_active",
        "Alarms that are not cleared",
        True,
        priority=PRIORITIES,
        state=("unack-active", "ack-active", "unack-cleared"),
    ),
    _gauge("alarms_shelved", "Alarms that are put aside", False),
    _gauge("alarm_flood", "1 while any area has more alarms than a person can take in", False),
    _histogram("alarm_ack_latency_seconds", "Raised until acknowledged", priority=PRIORITIES),
    # audit
    _counter("audit_records_total", "Audit records written", action=AUDIT_EVENTS),
    _counter("audit_write_failures_total", "Commits that failed"),
    _histogram("audit_write_duration_seconds", "Duration of a commit"),
    _gauge("audit_last_verified_timestamp_seconds", "When the chain was last verified", False),
    _gauge("audit_chain_ok", "1 if the chain verified then", False),
    _gauge("audit_head_sequence", "Number of the newest record", False),
    _gauge(
        "audit_anchored_timestamp_seconds", "When an anchor took a head last", False, anchor=ANCHOR
    ),
    _counter("audit_anchor_failures_total", "Heads that an anchor did not take", anchor=ANCHOR),
    _gauge("audit_lag_seconds", "Age of the oldest record that waits to be written", False),
    _counter(
        "purged_items_total",
        "What was purged at the end of its time",
        kind=("location", "content", "audit", "health"),
    ),
    _gauge("last_purge_timestamp_seconds", "When content was last looked through", False),
    # runtime
    _histogram("event_loop_lag_seconds", "How late the event loop runs what is due"),
    _gauge("tasks", "Tasks of the event loop that have not ended", False),
    _gauge("queue_depth", "What waits", True, queue=QUEUES),
    _gauge("queue_capacity", "What may wait", False, queue=QUEUES),
    _gauge("queue_oldest_age_seconds", "Age of what waits longest", False, queue=QUEUES),
    _counter("queue_dropped_total", "What was given up", queue=QUEUES, reason=DROPS),
    _counter("task_restarts_total", "Tasks that failed and were begun anew", task=TASKS),
    _gauge("clock_skew_seconds", "Wall clock against its reference", False),
    _counter("clock_step_seconds_total", "Jumps of the wall clock against the monotonic one"),
    _gauge(
        "cert_expiry_timestamp_seconds", "When a certificate of ours runs out", False, cert=CERT
    ),
    _gauge("config_loaded_timestamp_seconds", "When the configuration was loaded", False),
    _counter(
        "journal_dropped_total",
        "What the journal left out",
        reason=("event", "field", "rate", "stream"),
    ),
    _counter(
        "metric_errors_total",
        "Figures that named no metric of this table, or not its labels",
        reason=("name", "labels"),
    ),
)

FROM_EVENTS = frozenset(
    {
        "checks_completed_total",
        "alarms_raised_total",
        "alarms_active",
        "alarm_ack_latency_seconds",
        "emergency_ack_latency_seconds",
    }
)
"""Counted by `seen` alone, so that nothing is counted twice."""

PNC_CAUSES = (
    *("PNC LINK DOWN", "PNC ERROR", "PNC: NOT VALID", "PNC NO REPLY"),
    *("DVLA LINK DOWN", "DVLA ERROR", "DVLA: NOT VALID", "DVLA NO REPLY"),
)
"""The register's, where it alone was asked, count with them."""
MOST_ALARMS = 4096
_ANSWERED = {ResultClass.NO_TRACE.value: "no_trace", ResultClass.PARTIAL.value: "partial"}


def metric_outcome(event: CheckDone) -> str:
    """Label `outcome` of a check that ended. Source: pnc-domain, 8, last column.

    Only NO_TRACE is no_trace: an answer that is missing never counts as one.
    """
    match event.outcome:
        case Outcome.ANSWERED:
            return _ANSWERED.get(event.result_class, "trace")
        case Outcome.REFUSED:
            return "cancelled" if event.cause == "CANCELLED" else "refused"
        case Outcome.EXPIRED:
            return "expired"
        case Outcome.FAILED:
            return "pnc_error" if event.cause in PNC_CAUSES else "internal_error"


class _Family:
    """One metric and its closed label sets."""

    def __init__(self, metric: Metric, sets: Mapping[str, Sequence[str]], links: Mapping[str, str]):
        self.metric = metric
        self.names = tuple(metric.labels)
        self.closed: tuple[frozenset[str], ...] = tuple(
            frozenset({*self._values(name, sets), OTHER}) for name in self.names
        )
        self._sets = sets
        self._links = links

    def _values(self, name: str, sets: Mapping[str, Sequence[str]]) -> Sequence[str]:
        values = self.metric.labels[name]
        return sets[values] if isinstance(values, str) else values

    def born(self) -> Iterator[tuple[str, ...]]:
        """Every combination of labels that stands at 0 from the start."""
        axes = [self._values(name, self._sets) for name in self.names]
        if self.names[:2] == ("link", "kind"):  # a link has one kind, not all of them
            pairs = [(link, kind) for link, kind in self._links.items()]
            for pair, rest in itertools.product(pairs, itertools.product(*axes[2:])):
                yield (*pair, *rest)
            return
        if self.metric.type == "counter":
            axes = [[*axis, OTHER] for axis in axes]
        yield from itertools.product(*axes)

    def place(self, labels: Mapping[str, str]) -> tuple[str, ...] | None:
        """The child's key; values outside the set become `other`. None: wrong label names."""
        if len(labels) != len(self.names):
            return None
        try:
            values = tuple(labels[name] for name in self.names)
        except KeyError:
            return None
        return tuple(
            value if value in closed else OTHER
            for value, closed in zip(values, self.closed, strict=True)
        )


class _Count:
    """A counter's child. here: what the loop's thread added; elsewhere: what others did."""

    __slots__ = ("elsewhere", "here")

    def __init__(self) -> None:
        self.here = 0.0
        self.elsewhere = 0.0


class _Spread:
    """A histogram's child: how many fell into each bucket, and the sum of all."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def take(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class _Spreads:
    """As `_Count`: apart for the loop's thread and for the others."""

    __slots__ = ("elsewhere", "here")

    def __init__(self) -> None:
        self.here = _Spread()
        self.elsewhere = _Spread()


_Key = tuple[str, tuple[str, ...]]
"""A child: the metric's name and the values of its labels."""
_Said = tuple[str, tuple[tuple[str, str], ...]]
"""A child as whoever counts says it, labels by name: the way to it that needs no look at the sets.
Only what is in the closed sets has one: as many as there are series."""


class _Figures(Collector):
    """Counters and histograms, in place of the library's own, which take a lock for each figure
    and three for a duration: a check moves forty of them (docs/performance.md)."""

    def __init__(self) -> None:
        self.counts: dict[_Key, _Count] = {}
        self.spreads: dict[_Key, _Spreads] = {}
        self.families: list[_Family] = []
        self._keys: dict[str, list[tuple[str, ...]]] = {}

    def make(self, family: _Family) -> None:
        self.families.append(family)
        self._keys[family.metric.name] = []
        for key in family.born():
            self.child(family.metric, key)

    def child(self, metric: Metric, key: tuple[str, ...]) -> _Count | _Spreads:
        place = (metric.name, key)
        found: _Count | _Spreads | None
        if metric.type == "counter":
            found = self.counts.get(place)
            if found is None:
                found = self.counts[place] = _Count()
                self._keys[metric.name].append(key)
            return found
        found = self.spreads.get(place)
        if found is None:
            found = self.spreads[place] = _Spreads()
            self._keys[metric.name].append(key)
        return found

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        for family in self.families:
            name, help_ = PREFIX + family.metric.name, family.metric.help
            keys = tuple(self._keys[family.metric.name])
            if family.metric.type == "counter":
                total = CounterMetricFamily(name, help_, labels=family.names)
                for key in keys:
                    count = self.counts[family.metric.name, key]
                    total.add_metric(key, count.here + count.elsewhere)
                yield total
                continue
            spread = HistogramMetricFamily(name, help_, labels=family.names)
            for key in keys:
                each = self.spreads[family.metric.name, key]
                apart = zip(each.here.buckets, each.elsewhere.buckets, strict=True)
                numbers = itertools.accumulate(here + elsewhere for here, elsewhere in apart)
                edges = zip(_EDGES, numbers, strict=True)
                spread.add_metric(key, list(edges), each.here.sum + each.elsewhere.sum)
            yield spread


_EDGES = tuple(
    floatToGoString(edge)  # type: ignore[no-untyped-call]
    for edge in (*BUCKETS, float("inf"))
)


class _Gauges(Collector):
    """Gauges as they were last set; one never set is not there."""

    def __init__(self, families: Iterable[_Family]) -> None:
        self.values: dict[str, dict[tuple[str, ...], float]] = {}
        self.places: dict[
            tuple[str, tuple[str, ...]],
            tuple[tuple[str, ...], dict[tuple[str, ...], float], tuple[str, ...]],
        ] = {}
        """Where a gauge that was set before is set again, and the label names that it came with."""
        self._families = list(families)
        for family in self._families:
            born = family.born() if family.metric.born else ()
            self.values[family.metric.name] = dict.fromkeys(born, 0.0)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for family in self._families:
            said = GaugeMetricFamily(
                PREFIX + family.metric.name, family.metric.help, labels=family.names
            )
            for key, value in tuple(self.values[family.metric.name].items()):  # threads set too
                said.add_metric(key, value)
            yield said


class PrometheusMeter:
    """gateway.ports.Meter, and what `/metrics` says.

    links: name -> kind, all that the configuration names (relays and the PNC too, if their state
    is shown). certs: names of the certificates that it names. strict: an unknown name or label
    raises (tests); else it is counted and dropped.
    """

    def __init__(
        self,
        *,
        links: Mapping[str, str],
        areas: Sequence[str],
        agencies: Sequence[str],
        certs: Sequence[str] = (),
        anchors: Sequence[str] = (),
        version: str = "",
        commit: str = "",
        strict: bool = False,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._strict = strict
        self._monotonic_s = monotonic_s
        self._registry = prometheus_client.CollectorRegistry(auto_describe=False)
        sets = {LINK: tuple(links), AREA: tuple(areas), AGENCY: tuple(agencies)}
        sets[CERT] = tuple(certs)
        sets[ANCHOR] = tuple(anchors)
        self._families = {metric.name: _Family(metric, sets, links) for metric in METRICS}
        self._home = threading.get_ident()
        self._door = threading.Lock()
        """For figures from other threads: the ledger's, the history's."""
        self._counts: dict[_Said, _Count] = {}
        self._spreads: dict[_Said, _Spreads] = {}
        self._figures = _Figures()
        gauges = []
        for family in self._families.values():
            metric = family.metric
            if metric.type == "gauge":
                gauges.append(family)
                continue
            self._figures.make(family)
        self._registry.register(self._figures)
        self._gauges = _Gauges(gauges)
        self._registry.register(self._gauges)
        prometheus_client.ProcessCollector(registry=self._registry)
        prometheus_client.GCCollector(registry=self._registry)
        prometheus_client.Gauge(
            PREFIX + "build_info",
            "What runs here",
            ("version", "commit", "python"),
            registry=self._registry,
        ).labels(version, commit, platform.python_version()).set(1)
        self._alarms: dict[str, tuple[str, str, str, float]] = {}

    # ------------------------------------------------------------------ the port

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        """Add n >= 0 to a counter."""
        child = self._counts.get((name, tuple(labels.items())))
        if child is None:
            found = self._found(name, "counter", labels)
            if not isinstance(found, _Count):
                return
            child = found
        if n < 0:
            raise ValueError(f"{name}: a counter only rises")
        if threading.get_ident() == self._home:
            child.here += n
        else:
            with self._door:
                child.elsewhere += n

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """One duration for a histogram."""
        child = self._spreads.get((name, tuple(labels.items())))
        if child is None:
            found = self._found(name, "histogram", labels)
            if not isinstance(found, _Spreads):
                return
            child = found
        if threading.get_ident() == self._home:
            child.here.take(seconds)
        else:
            with self._door:
                child.elsewhere.take(seconds)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """The figure as it is now."""
        known = self._gauges.places.get((name, tuple(labels.values())))
        if known is not None and tuple(labels) == known[0]:
            known[1][known[2]] = float(value)
            return
        family = self._families.get(name)
        if family is None or family.metric.type != "gauge":
            self._wrong("name", f"no gauge {name}")
            return
        key = family.place(labels)
        if key is None:
            self._wrong("labels", f"{name}: labels are {family.names}, not {tuple(labels)}")
            return
        values = self._gauges.values[name]
        values[key] = float(value)
        if tuple(labels.values()) == key and tuple(labels) == family.names:
            # What is in the closed sets: as many places as there are series.
            self._gauges.places[name, key] = (family.names, values, key)

    def render(self) -> bytes:
        """The text that Prometheus reads (format 0.0.4)."""
        return prometheus_client.generate_latest(self._registry)

    def _found(self, name: str, type_: str, labels: dict[str, str]) -> _Count | _Spreads | None:
        """The child that is meant; None, said, when there is none."""
        family = self._families.get(name)
        if family is None or family.metric.type != type_:
            self._wrong("name", f"no {type_} {name}")
            return None
        key = family.place(labels)
        if key is None:
            self._wrong("labels", f"{name}: labels are {family.names}, not {tuple(labels)}")
            return None
        with self._door:
            child = self._figures.child(family.metric, key)
        if tuple(labels.values()) == key and tuple(labels) == family.names:
            said = (name, tuple(labels.items()))
            if isinstance(child, _Count):
                self._counts[said] = child
            else:
                self._spreads[said] = child
        return child

    def _wrong(self, reason: str, says: str) -> None:
        if self._strict:
            raise ValueError(says)
        self.count("metric_errors_total", reason=reason)

    # ------------------------------------------------------------------ the tap

    def seen(self, event: Event) -> None:
        """Count what an event says by itself (EventBus.tap). Constant time."""
        match event:
            case CheckDone():
                self.count(
                    "checks_completed_total",
                    kind=event.kind.value,
                    outcome=metric_outcome(event),
                )
            case AlarmChanged() if event.rule != COVERT:
                self._alarm(event)
            case _:
                pass

    def _alarm(self, event: AlarmChanged) -> None:
        priority = str(event.priority)
        before = self._alarms.get(event.id)
        if before is None and event.state != "cleared":
            self.count("alarms_raised_total", rule=event.rule, priority=priority)
        raised_s = before[3] if before is not None else self._monotonic_s()
        if before is not None:
            self._shift(before[0], before[1], -1)
            del self._alarms[event.id]
            if before[1] == "unack-active" and event.state == "ack-active":
                took_s = self._monotonic_s() - raised_s
                self.observe("alarm_ack_latency_seconds", took_s, priority=priority)
                if event.rule == "EMG":
                    self.observe("emergency_ack_latency_seconds", took_s)
        if event.state != "cleared" and len(self._alarms) < MOST_ALARMS:
            self._alarms[event.id] = (priority, event.state, event.rule, raised_s)
            self._shift(priority, event.state, 1)

    def _shift(self, priority: str, state: str, by: int) -> None:
        family = self._families["alarms_active"]
        key = family.place({"priority": priority, "state": state})
        assert key is not None
        values = self._gauges.values["alarms_active"]
        values[key] = values.get(key, 0.0) + by
