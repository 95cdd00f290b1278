"""config/alarms.toml: the sample stands every check; what would hide an alarm is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.alarm_rules import CAUSES, COVERT, EMERGENCY
from gateway.errors import ConfigError
from gateway.settings import load
from tests.gateway.strategies import CONFIG, RULES
from tests.gateway.test_settings import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_every_cause_has_its_rule_and_every_rule_its_response(folder: Folder) -> None:
    """The sample is the console design's table: 14 alarms of the server, COV, AUP and HNR."""
    rules = load(folder.main).alarms
    assert set(rules.by_cause) == set(CAUSES)
    assert len(rules.by_id) == 17
    assert all(len(rule.response) > 3 for rule in rules.rules)
    assert {rule.id for rule in rules.rules if rule.priority == 1} == {EMERGENCY, "DNR"}
    assert RULES.by_id["PNC"].collapses == ("CHX", "CHO")


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('version = "2026-11-27"', 'version = " "', "version: missing"),
        ('id = "DNR"', 'id = "EMG"', "rules[0].id: stands twice"),
        ('id = "DNR"', 'id = "dnr"', "rules[1].id: three letters A-Z (line"),
        ('cause = "unread"', 'cause = "undelivered"', "rules[1].cause: stands twice"),
        ('cause = "unread"', 'cause = "undelivered"', "rules: no rule for the cause unread"),
        ('cause = "unread"', 'cause = "rain"', "rules[2].cause: one of emergency"),
        ('cause = "emergency"', 'cause = "rain"', "rules[0].id: EMG is the cause emergency"),
        ("escalate_s = 15.0", "escalate_s = 0.0", "rules[0].escalate_s: an emergency goes"),
        ("escalate_s = 15.0", "on_delay_s = 1.0", "rules[0].priority: an emergency is 1"),
        ("escalate_s = 15.0", "escalate_s = 15.0\nshelve = true", "what is 1 is never shelved"),
        ("escalate_s = 15.0", "escalate_s = 15.0\ngrace = true", "what is 1 is never shelved"),
        ("escalate_s = 15.0", 'audience = "supervisor"', "rules[0].priority: what is 1 is never"),
        ("escalate_s = 15.0", "ack = false", "rules[0].ack: what is priority 1 must be"),
        ("priority = 2", "priority = 4", "rules[2].priority: 1, 2 or 3"),
        ('says = "NO ANSWER"', 'says = "No answer"', "rules[3].says: upper-case"),
        ('response = "Call the officer."', 'response = ""', "rules[2].response: one line"),
        ("on_delay_s = 15.0", "on_delay_s = -1.0", "rules[2].on_delay_s: between 0 and 3600"),
        ('sound = "double"', 'sound = "loud"', "rules[2].sound: one of none"),
        ('audience = "supervisor"', 'audience = "nobody"', "audience: one of operator"),
        ("limit = 120.0", "limit = 0.0", "limit: between 1 and 86400 seconds"),
        ("ack = false", "ack = false\nescalate_s = 9.0", "escalate_s: only where an operator"),
        (
            'audience = "supervisor"',
            'audience = "supervisor"\nescalate_s = 9.0',
            "only where an operator",
        ),
        ('id = "COV"', 'id = "WTH"', "COV is the cause covert, and nothing else is"),
        (
            'sound = "single"\naudience = "supervisor"',
            'sound = "single"\naudience = "operator"',
            "audience: of COV supervisors alone",
        ),
        ("often = 5\n", "", "often: how many within limit seconds are much"),
        ("limit = 120.0", "limit = 120.0\noften = 3", "often: for the causes refused, reveals"),
        (
            'audience = "supervisor"\noften',
            'audience = "operator"\noften',
            "audience: of what an operator did supervisors alone",
        ),
        ('["CHX", "CHO"]', '["CHX", "XXX"]', "rules[5].collapses: XXX is no other rule"),
        ('["CHX", "CHO"]', '["DNR"]', "rules[5].collapses: DNR is priority 1"),
        ('["CHX", "CHO"]', '["EMG"]', "rules[5].collapses: EMG is priority 1"),
        ("shelve_minutes = [5, 10, 15]", "shelve_minutes = [60]", "shelve_minutes: 1 to 15 each"),
        ('"known fault"', '"Known: fault"', "shelve_reasons: words in lower case"),
        ("standing_h = 24.0", "standing_h = 0.0", "standing_h: between 1 and 168"),
        ("raisings = 3", "raisings = 1", "chatter: raisings between 2 and 100"),
        ("fewer_than = 5", "fewer_than = 50", "flood: 0 < fewer_than <= more_than"),
        ("shelve = true", "shelved = true", "shelved: unknown; did you mean shelve? (line"),
    ],
)
def test_what_is_wrong_is_named(folder: Folder, old: str, new: str, finding: str) -> None:
    folder.change("alarms.toml", old, new)
    found = folder.findings()
    assert any(finding in line and line.startswith("alarms.toml: ") for line in found), found


def test_no_alarms_no_start(folder: Folder) -> None:
    """Without the file nobody would be told of anything."""
    (folder.path / "alarms.toml").unlink()
    with pytest.raises(ConfigError) as caught:
        load(folder.main)
    assert "alarms.toml: cannot be read" in caught.value.findings[0]


def test_the_code_holds_no_rule(folder: Folder) -> None:
    """Ids, texts and priorities are data: of the ids the core knows EMG alone, and COV, which no
    file may show to more than supervisors."""
    others = {f'"{rule.id}"' for rule in RULES.rules if rule.id not in (EMERGENCY, COVERT)}
    says = {f'"{rule.says}"' for rule in RULES.rules} | {rule.response for rule in RULES.rules}
    core = CONFIG.parent / "gateway"
    for path in core.glob("alarm*.py"):
        text = path.read_text("utf-8")
        assert not {word for word in others | says if word in text}, path.name
