"""The join can fail: each invariant is violated once by a made-up record, and must be named.

One sound story (a question over MQTT, answered with a warning) is changed in one place per test.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chain import GENESIS, Leaf, heads_faults, heads_said, tables
from tests.system import asked, bounds, on_record, shown
from tests.system.bounds import Sampler, changes, outlived, spilled, unfinished, unheard
from tests.system.console import Console
from tests.system.ledgers import Evidence, join, judge, promises
from tests.system.officers import Heard, LineOfficer, MqttOfficer, rmc_degrees

HERE = Path(__file__).resolve().parent
CHECK, OTHER = "01M8E608ESWF58KT4JK5W1C001", "01M8E608ESWF58KT4JK5W1C002"
ISSI, CALLSIGN = "5001003", "E-103"
SALT = b"s" * 16
RESULT: dict[str, Any] = {
    "ref": "a-1",
    "check": CHECK,
    "short": "C001",
    "outcome": "answered",
    "class": "HIT_CRITICAL",
    "danger": ["VIOLENT"],
    "pages": ["!!VIOLENT\nTE99STV\nC001 1/1"],
    "fields": {"vrm": "TE99STV"},
    "not_checked": [],
    "level": "L3",
    "receipt": "4F2A-91KQ",
}
DISCLOSED = {**{k: v for k, v in RESULT.items() if k != "class"}, "result_class": "HIT_CRITICAL"}
SNAPSHOT: dict[str, Any] = {
    "epoch": "e1",
    "seq": 0,
    "units": {"cols": ["i", "cs", "lat6", "lon6"], "rows": [[0, CALLSIGN, None, None]]},
}


class Story:
    """The parts of one sound story, each open to change. `at` is in ms and s alike."""

    def __init__(self) -> None:
        self.radio = MqttOfficer(ISSI, 0)
        question = {"ref": "a-1", "t": "", "kind": "vehicle", "vrm": "TE99 STV", "reason": "1"}
        self.radio.sent = [(1.0, "check", json.dumps(question).encode())]
        self.hear("receipt", 1.1, ref="a-1", check=CHECK, short="C001", accepted=True)
        self.hear("result", 2.0, **RESULT)
        self.records: list[dict[str, Any]] = [
            self.record("opened", 1000),
            self.record("asked", 1010, attempt=1),
            self.record("answered", 1500, attempt=1, outcome="answered"),
            self.record("disclosed", 1500, outcome="answered", level="L3"),
            self.record("delivered", 2100),
        ]
        self.contents: dict[int, Any] = {1: {"key": "VRM:TE99STV"}, 4: copy.deepcopy(DISCLOSED)}
        self.registered: list[dict[str, Any]] = []
        self.queries: list[dict[str, Any]] = [{"check": CHECK, "attempt": 1, "at_ms": 1020}]
        self.replies: list[dict[str, Any]] = [
            {"check": CHECK, "attempt": 1, "kind": "trace", "warnings": ("VI",)}
        ]
        self.console = Console("")
        self.console.begin(SNAPSHOT)
        self.done = {"type": "check.done", "ref": "C001", "id": CHECK, "outcome": "answered"}
        self.console.take(dict(self.done))
        self.heads: dict[int, list[str]] | None = None
        self.seen_at_s = 10.0

    def hear(self, channel: str, at_s: float, **body: Any) -> Heard:
        heard = Heard(channel, json.dumps(body).encode(), body)
        heard.at_s, heard.at_ms = at_s, round(at_s * 1000)
        self.radio.heard.append(heard)
        return heard

    def record(self, event: str, at_ms: int, check: str = CHECK, **members: Any) -> dict[str, Any]:
        return {"event": event, "check": check, "terminal": ISSI, "at_ms": at_ms, **members}

    def leaves(self) -> list[Leaf]:
        leaves, prev = [], GENESIS
        for seq, record in enumerate(self.records, 1):
            body = {**record, "log": "gwt", "seq": seq, "prev": prev}
            if seq in self.contents:
                raw = json.dumps(self.contents[seq]).encode()
                body["commitment"] = hashlib.sha256(SALT + raw).hexdigest()
            text = json.dumps(body, sort_keys=True).encode()
            prev = hashlib.sha256(b"\x00" + text).hexdigest()
            leaves.append(Leaf("gwt", seq, text, prev))
        return leaves

    def evidence(self) -> Evidence:
        return Evidence(
            [self.radio],
            self.queries,
            self.leaves(),
            self.console,
            replies=self.replies,
            contents={
                seq: (SALT, json.dumps(kept).encode()) for seq, kept in self.contents.items()
            },
            heads=self.heads,
            callsigns={ISSI: CALLSIGN},
            seen_at_s=self.seen_at_s,
            registered=self.registered,
        )


def test_the_sound_story_has_no_fault() -> None:
    """Else the violations below would prove nothing."""
    story = Story()
    assert judge(story.evidence()) == []
    assert promises(story.evidence()) == []
    assert unfinished(story.evidence()) == []
    assert join([story.radio], story.queries, story.leaves(), story.console) == []


# --------------------------------------------------------------------------- each join


def _more(event: str, **members: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.records.append(story.record(event, 3000, **members))

    return change


def _record(index: int, **members: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.records[index].update(members)

    return change


def _heard_more(channel: str, **body: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.hear(channel, 3.0, **body)

    return change


def _without(*events: str) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.records = [each for each in story.records if each["event"] not in events]
        story.contents = {}

    return change


def _and(*several: Callable[[Story], None]) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        for each in several:
            each(story)

    return change


def _disclosed_otherwise(story: Story) -> None:
    story.contents[4]["fields"] = {"vrm": "TE99STV", "keeper": "TESTER"}


def _told_too_early(story: Story) -> None:
    story.radio.heard[1].at_ms = 1400


def _another_key(story: Story) -> None:
    story.contents[1]["key"] = "VRM:TE99KWN"


def _stranger(story: Story) -> None:
    for record in story.records:
        record["terminal"] = "5009999"
    story.radio.heard = []


def _struck_off(story: Story) -> None:
    story.radio.revoked_at_s = -4.0


def _query_more(**query: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.queries.append({"check": CHECK, "attempt": 1, **query})

    return change


def _register_query(story: Story) -> None:
    story.registered.append({"check": CHECK, "attempt": 1})


def _refused_and_asked(story: Story) -> None:
    story.records[2:4] = [story.record("refused", 1500, outcome="refused")]
    del story.records[1]
    story.contents = {}
    story.radio.heard = []


def _receipt_says_no(story: Story) -> None:
    story.radio.heard[0].body["accepted"] = False


def _warning_lost(story: Story) -> None:
    body = {**RESULT, "danger": [], "pages": ["TE99STV\nC001 1/1"]}
    story.radio.heard[1].body = body
    story.contents[4] = {**DISCLOSED, "danger": [], "pages": body["pages"]}


def _all_clear(story: Story) -> None:
    story.records[3]["level"] = "L1"
    body = {**RESULT, "danger": ["CLEAR"], "pages": ["SAFETY: CLEAR\nC001 1/1"]}
    story.radio.heard[1].body = body
    story.contents[4] = {**DISCLOSED, "danger": body["danger"], "pages": body["pages"]}


def _unknown_warning_lost(story: Story) -> None:
    story.replies[0]["warnings"] = ("VI", "QQ")


def _hole(story: Story) -> None:
    story.console.holes = 1


def _shown(**changed: Any) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.console.take({**story.done, **changed})

    return change


def _path(*places: tuple[int, int]) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.radio.fixes = [(1.0, 52_000_000, 0), (2.0, 52_000_100, 0), (3.0, 52_000_200, 0)]
        for lat6, lon6 in places:
            story.console.take({"type": "unit.batch", "u": [[0, lat6, lon6, 8, 0, 0, 0, 0]]})

    return change


def _called_for_help(story: Story) -> None:
    story.radio.emergencies = [2.0]


@pytest.mark.parametrize(
    ("named", "change"),
    [
        ("I1 C001: 2 outcomes", _more("answered", outcome="failed")),
        ("I1 C001: 0 outcomes", _without("answered", "disclosed")),
        ("I1 C001: outcome 'perhaps'", _record(2, outcome="perhaps")),
        ("I1 C001: 2 opening records", _more("opened")),
        ("I1 C002: receipted, no outcome", _heard_more("receipt", short="C002", accepted=True)),
        ("I2 C001: told failed", _heard_more("result", **{**RESULT, "outcome": "failed"})),
        ("I2 C001/0: 2 different results", _heard_more("result", **{**RESULT, "danger": []})),
        ("I2 C001: shown other than", _disclosed_otherwise),
        ("I2 C001: 2 outcomes on the page", _shown(outcome="expired")),
        ("I3 C002: a result that", _heard_more("result", short="C002", check=OTHER)),
        (
            "I3 C002: receipted to another",
            _and(
                _more("opened", check=OTHER, terminal="5001002"),
                _heard_more("receipt", short="C002", check=OTHER),
            ),
        ),
        ("I5 C001: a result without an outcome", _without("answered", "disclosed")),
        ("I5 C001: an answer without a disclosure", _without("disclosed")),
        ("I5 C001: heard before its record", _told_too_early),
        ("I5 C002: receipted without a record", _heard_more("receipt", short="C002")),
        ("I6 C001: attempt 2 has no record", _query_more(attempt=2)),
        ("I6 C002: asked without an opening", _query_more(check=OTHER)),
        ("I6 C001: attempt 1 was made before", _record(1, at_ms=1030)),
        ("I7 C001: on record, but nobody", _another_key),
        ("I7 C001: a terminal that is none", _stranger),
        ("I8 C001: refused on record, and asked", _refused_and_asked),
        ("I8 C001: refused, and asked", _receipt_says_no),
        ("I10 E-103: a position that was never", _path((52_000_000, 0), (53_000_000, 0))),
        ("I10 E-103: the newest fix is not", _path((52_000_000, 0), (52_000_100, 0))),
        ("I11 E-103: the marker went back", _path((52_000_200, 0), (52_000_001, 1))),
        ("I18 C001: answered 6 s after", _struck_off),
        ("I21 C001: attempt 1 reached the PNC 2", _query_more()),
        ("I21 C001: asked again after", _more("asked", attempt=2)),
        ("I21 C001: attempts [1, 1]", _more("asked", attempt=1)),
        ("I6 C001: attempt 1 has no record", _register_query),
        ("I6 C001: attempt 1 has no record", _record(1, source="DVLA/MID")),
        (
            "I21 C001: the register, attempts [1, 1]",
            _and(
                _more("asked", attempt=1, source="DVLA/MID"),
                _more("asked", attempt=1, source="DVLA/MID"),
            ),
        ),
        (
            "I21 a-1: one question became 2",
            _heard_more("receipt", ref="a-1", short="C002", accepted=False),
        ),
        ("I22 C001: warning VI was not", _warning_lost),
        ("I22 C001: warning QQ was not", _unknown_warning_lost),
        ("I22 C001: all clear", _all_clear),
        ("W09 the stream had 1", _hole),
        ("C C002: shown as done", _shown(id=OTHER, ref="C002")),
        ("C C001: shown expired", _shown(outcome="expired")),
        ("EMG E-103: not on record", _called_for_help),
        ("EMG E-103: not on the page", _called_for_help),
    ],
)
def test_a_violation_is_named(named: str, change: Callable[[Story], None]) -> None:
    story = Story()
    change(story)
    found = judge(story.evidence())
    assert any(fault.startswith(named) for fault in found), found


def test_what_is_allowed_is_no_fault() -> None:
    """A repeat says AS AT; a warning shows by its short word; the marker is where it was sent."""
    story = Story()
    repeat = {**RESULT, "pages": ["!!VIOLENT\nAS AT 10:15"], "repeated": True}
    story.hear("result", 3.0, **repeat)
    _path((52_000_000, 0), (52_000_201, -1))(story)
    _called_for_help(story)
    story.records.append({"event": "emergency", "terminal": ISSI, "at_ms": 2000})
    story.console.take({"type": "unit.emergency", "i": 0, "on": True})
    assert judge(story.evidence()) == []


def test_a_kill_finds_what_was_promised_too_early() -> None:
    """What `promises` looks at in the moment of a kill: told, or asked, before the record."""
    story = Story()
    story.records = []
    assert promises(story.evidence()) == [
        "I5 C001: receipted without a record",
        "I6 C001: attempt 1 has no record",
        "I6 C001: asked without an opening on record",
    ]
    story = Story()
    story.records = story.records[:3]
    assert promises(story.evidence()) == ["I5 C001: an answer without a disclosure on record"]


# --------------------------------------------------------------------------- the chain's heads


def test_heads_that_contradict_or_shrink_are_named(tmp_path: Path) -> None:
    """I9: one hash a size, sizes that grow, and what was published is what stands."""
    leaves = Story().leaves()
    one, two = leaves[0].stored_hash, leaves[1].stored_hash
    assert heads_faults(leaves, {1: [one], 2: [two, two]}) == []
    assert heads_faults(leaves, {2: [two, one]}) == ["I9 head 2: 2 different ones"]
    assert heads_faults(leaves, {2: [two], 1: [one]}) == ["I9 heads: the tree shrank"]
    assert heads_faults(leaves, {9: [one]}) == ["I9 head 9: not that record's hash"]
    story = Story()
    story.heads = {1: [two]}
    assert judge(story.evidence()) == ["I9 head 1: not that record's hash"]
    file = tmp_path / "heads.jsonl"
    assert heads_said(file, "gwt") == {}
    file.write_text('{"log":"gwt","seq":1,"hash":"a"}\n{"log":"x","seq":1,"hash":"b"}\n{"log":"g')
    assert heads_said(file, "gwt") == {1: ["a"]}


def test_a_broken_chain_is_named_by_the_join() -> None:
    story = Story()
    e = story.evidence()
    e.leaves[2].stored_hash = GENESIS
    assert [fault for fault in judge(e) if fault.startswith("I9 gwt:3: hash")]


# --------------------------------------------------------------------------- over time


def test_who_waits_too_long_is_named() -> None:
    """I4: on T's own clock; an outage lengthens the wait to its end and 2 s more."""
    e = Story().evidence()
    assert unheard(e, receipt_s=0.2, outcome_s=1.1) == []
    assert unheard(e, receipt_s=0.05, outcome_s=1.1) == ["I4 a-1: receipt 0.1 s late"]
    assert unheard(e, receipt_s=0.2, outcome_s=0.5) == ["I4 a-1: result 0.5 s late"]
    assert unheard(e, receipt_s=0.2, outcome_s=0.5, outages=[(1.4, 1.6)]) == []
    assert unheard(e, receipt_s=0.2, outcome_s=0.5, outages=[(1.6, 9.0)]) != []
    e.officers[0].heard = []
    assert unheard(e, receipt_s=9, outcome_s=9) == ["I4 a-1: no receipt", "I4 a-1: no result"]
    line = LineOfficer("5001001", Path("x"))
    line.sent = [(1.0, "line", b"V TE99STV R1 Q7\r\n"), (2.0, "line", b"#A C001 1 D\r\n")]
    assert line.asked_at_s() == {"7": 1.0}
    assert len(unheard(Evidence([line]), receipt_s=1, outcome_s=1)) == 2


def test_what_is_not_over_is_named() -> None:
    """I14: a check, an answer that somebody waits for, one that waits itself, a link."""
    story = Story()
    story.records = story.records[:2]
    story.radio.heard = story.radio.heard[:1]
    links = [{"id": "mqtt", "state": "up"}, {"id": "serial-e", "state": "down"}]
    assert unfinished(story.evidence(), tables={"outbox": [("x",)]}, links=links) == [
        "I14 C001: no outcome",
        "I14 C001: receipted, no answer heard",
        "I14 1 answers wait",
        "I14 serial-e: down",
    ]
    story.records += [story.record("answered", 1500), story.record("stale", 700_000)]
    assert unfinished(story.evidence()) == []


async def test_what_grows_is_named() -> None:
    """I13: our own process, which certainly has descriptors and memory."""
    sampler = Sampler(os.getpid)
    assert sampler.faults(rss_mib=1e9) == ["I13 nothing was sampled"]
    sampler.sample()
    assert sampler.faults(rss_mib=1e6, descriptors=1e6, threads=1e6) == []
    assert len(sampler.faults(rss_mib=1, descriptors=1, threads=0)) == 3
    gone = Sampler(lambda: 2**22 + 1)
    gone.sample()
    assert gone.samples == 0


def test_what_a_restart_changed_is_named(tmp_path: Path) -> None:
    """I19: of every table but the audit; the writer's epoch counts the starts, and may."""
    import sqlite3

    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("CREATE TABLE checks (id)")
        db.execute("CREATE TABLE meta (key, value)")
        db.execute("CREATE TABLE audit_leaf (log)")
        db.execute("INSERT INTO checks VALUES ('C001')")
    before = tables(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("INSERT INTO meta VALUES ('fence:gwt', '2')")
        db.execute("INSERT INTO audit_leaf VALUES ('gwt')")
    assert changes(before, tables(tmp_path)) == []
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("UPDATE checks SET id = 'C002'")
    assert changes(before, tables(tmp_path)) == ["I19 checks: not as it was"]
    db.close()


def test_what_leaked_is_named() -> None:
    """I12: in whatever disguise."""
    outputs = {"journal": b"...5445393953545600", "stderr": b"nothing"}
    assert spilled(outputs, ["TE99STV"]) == [f"I12 journal holds {b'5445393953545' + b'6'!r}"]
    assert spilled(outputs, ["TE99KWN"]) == []


def test_what_is_kept_beyond_its_time_is_named() -> None:
    """I17: in the bytes of a file, in a row; and what went without a record of it."""
    story = Story()
    files = {"ledger.db": b"..VRM:TE99STV..", "ledger.db-wal": b"", "export": b"..."}
    assert outlived(story.evidence(), files, [], before_ms=1000) == []
    assert outlived(story.evidence(), files, ["TE99STV"], before_ms=1000) == [
        "I17 ledger.db holds b'TE99STV'"
    ]
    assert outlived(story.evidence(), {}, [], before_ms=61_400) == [
        "I17 gwt:1: content 60 s too old",
        "I17 gwt:4: content 59 s too old",
    ]
    e = story.evidence()
    e.contents = {}
    assert outlived(e, {}, [], before_ms=61_400) == ["I17 2 contents are gone, 0 of them on record"]
    purged = {"event": "purged", "at_ms": 9000, "detail": "content: 2 items, 1 checks, 0 messages"}
    story.records.append(purged)
    e = story.evidence()
    e.contents = {}
    assert outlived(e, files, ["WANDA"], before_ms=61_400) == []
    assert judge(e) == []


def test_a_life_that_is_not_on_record_is_named() -> None:
    """I20: each life that came to serve, and each end in good order."""
    story = Story()
    story.records = [{"event": "started", "at_ms": 1}, {"event": "stopped", "at_ms": 2}]
    e = story.evidence()
    assert shown.lives(e, started=2, ready=1, stopped=1) == []
    assert shown.lives(e, started=2, ready=2, stopped=1) != []
    assert shown.lives(e, started=0, ready=0, stopped=1) != []
    assert shown.lives(e, started=1, ready=1, stopped=0) == ["I20 1 stops on record, of 0"]


def test_a_fault_that_nobody_was_told_of_is_named() -> None:
    """I20: its beginning and its end."""
    console = Console("")
    assert shown.faults_seen(console, ["mqtt"]) == ["I20 mqtt: broke, and nobody was told"]
    console.take({"type": "link", "id": "mqtt", "state": "up"})
    console.take({"type": "link", "id": "mqtt", "state": "down"})
    assert shown.faults_seen(console, ["mqtt"]) == ["I20 mqtt: its end was not told"]
    console.take({"type": "link", "id": "mqtt", "state": "up"})
    assert shown.faults_seen(console, ["mqtt"]) == []


def test_a_receivers_sentence_is_as_nmea_has_it() -> None:
    """Degrees and minutes in one figure: 52.5725 N is 52 degrees 34.35 minutes."""
    assert rmc_degrees(52_572_500, "NS", 2) == "5234.35000,N"
    assert rmc_degrees(-243_100, "EW", 3) == "00014.58600,W"


# --------------------------------------------------------------------------- independence

OWN = ("ledgers", "evidence", "on_record", "asked", "shown", "bounds", "console", "officers")
WORLDS = ("world", "cell", "tetra_officer")
HARNESS = [HERE / f"{name}.py" for name in (*OWN, "daemon", *WORLDS)] + [HERE.parent / "chain.py"]


@pytest.mark.parametrize("path", HARNESS, ids=lambda path: path.stem)
def test_the_harness_shares_no_code_with_the_daemon(path: Path) -> None:
    """A misreading on both sides of the product cannot hide in what judges it. The judges know
    nothing of the simulators either; world.py starts the PNC server, which is one, and cell.py
    the TETRA radios, which are barred from the product's codecs."""
    allowed = {"tests", *(("simulators",) if path.stem in WORLDS else ())}
    found = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in _imported(node)
    }
    assert found & {"gateway", "adapters", "simulators", "tests"} <= allowed


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_every_judge_is_asked() -> None:
    """A check that no join calls judges nothing."""
    for module in (on_record, asked, shown, bounds):
        text = Path(module.__file__ or "").read_text("utf-8")
        names = [
            node.name
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef)
            and any(arg.arg in {"e", "console"} for arg in node.args.args)
            and not node.name.startswith("_")
        ]
        assert names, module.__name__
        uses = "".join(
            path.read_text("utf-8") for path in HERE.glob("*.py") if path.name != "test_ledgers.py"
        )
        for name in names:
            assert uses.count(f"{name}(") > 1, f"{name} is not used"
