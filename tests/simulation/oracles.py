"""The invariants (I1-I22 as far as they concern the core), checked by joining what each party saw.

`online` is called at the moment of a happening; `joined` after the end. Both raise AssertionError
with the invariant's number.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from gateway.messages import Outcome, PncQuery, Result, VehicleKey
from tests.simulation.world import World

ENDINGS = {"answered", "refused", "cancelled"}


def question_allowed(world: World, query: PncQuery) -> None:
    """I6, I16, I21: on record before it is asked, with this attempt, and not after an outcome."""
    noted = [
        record
        for record in world.disk.records
        if record.event == "asked" and record.check == query.check
    ]
    assert query.attempt in {record.attempt for record in noted}, "I6: asked without a record"
    assert world.disk.checks[query.check].outcome == "", "I21: asked after the outcome"


def result_allowed(world: World, terminal: str, result: Result) -> None:
    """I3, I5: to the one who asked, and only after outcome and disclosure are on record."""
    records = [record for record in world.disk.records if record.check == result.check]
    assert records, "I5: a result without any record"
    assert {record.terminal for record in records} == {terminal}, "I3: another's result"
    assert any(r.event in ENDINGS for r in records), "I5: an outcome that is not on record"
    if result.outcome is Outcome.ANSWERED:
        told = [r for r in records if r.event == "disclosed"]
        assert told, "I5: shown before the disclosure was on record"
        assert told[0].recipient, "I5: a disclosure without a recipient"
        assert told[0].level == result.level, "I5: disclosed at another level than recorded"


def joined(world: World) -> None:
    """Everything that can only be judged at the end, after the world was healed."""
    endings: dict[str, list[str]] = defaultdict(list)
    for record in world.disk.records:
        if record.event in ENDINGS:
            endings[record.check].append(record.outcome)
    for id_, outcomes in endings.items():
        assert len(outcomes) == 1, f"I1: {len(outcomes)} outcomes"
        assert world.disk.checks[id_].outcome == outcomes[0], "I1: row and record differ"
    opened = {r.check for r in world.disk.records if r.event == "opened"}
    assert opened == set(endings), "I14: a check without an outcome after the heal"
    for terminal in world.terminals.values():
        for ref, receipts in terminal.receipts.items():
            accepted = {receipt.check for receipt in receipts if receipt.accepted}
            assert len(accepted) <= 1, "I1: one question, two checks"
            for check in accepted:
                assert check in endings, "I1: receipted and lost"
            assert ref in terminal.sent, "I7: a receipt for what was never sent"
        for check, results in terminal.results.items():
            bodies = {msgspec.json.encode(result) for result in results}
            assert len(bodies) == 1, "I2: two different results of one check"
            content(terminal.sent[results[0].ref].key, results[0])
            assert results[0].outcome == world.disk.checks[check].outcome, "I2: told and recorded"


def content(key: object, result: Result) -> None:
    """I22 and decision 10: danger is never dropped, and silence is never 'no trace'."""
    assert isinstance(key, VehicleKey)
    shown = "\n".join(result.pages)
    if result.outcome is not Outcome.ANSWERED:
        assert "NO TRACE" not in shown.replace("NOT AS NO TRACE", ""), "decision 10"
        assert "NO REPORTS" not in shown, "decision 10"
        return
    if key.vrm in ("TE99ABC", "TE99STV"):
        assert "STOLEN" in result.pages[0], "I22: stolen not on page 1"
        assert result.danger, "I22: no danger word"
    if key.vrm == "TE99STV":
        assert "VIOLENT" in result.pages[0], "I22: violent occupant not on page 1"
    assert ("NO TRACE" in shown) == (key.vrm == "TE99AAA"), "another vehicle's answer"
