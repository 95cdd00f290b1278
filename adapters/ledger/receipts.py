"""What a receipt proves: who asked what and why, and what was shown to whom, under signed heads.

The words of the question and of the answer come from the content that the records committed to,
for as long as that lives; then it is said that it was destroyed, and all else still stands. What
the PNC replied is never among them: only what was put before somebody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from adapters.ledger.proofs import Inclusion, Prover
from adapters.ledger.readers import Leaf, of_receipt, reading
from adapters.ledger.verify import verify_leaf

HELD, PURGED, NONE = "held", "purged", "none"
"""Where a record's content is: here; destroyed when its time was over; there never was any."""


class Question(msgspec.Struct, omit_defaults=True):
    """Who asked what, where and why. said: key, justification, location, as `opened` has them."""

    t: str
    terminal: str
    officer: str
    agency: str
    role: str
    reason: str
    operation: str
    policy: str
    content: str
    operator: str = ""
    booking: str = ""
    on_behalf: str = ""
    parent: str = ""
    said: dict[str, str] = {}


class Consultation(msgspec.Struct, omit_defaults=True):
    """One question to a source."""

    t: str
    source: str
    attempt: int
    content: str
    originator: str = ""


class Shown(msgspec.Struct, omit_defaults=True):
    """What was put before whom. event: disclosed, duplicate, shown, message."""

    t: str
    event: str
    recipient: str
    level: str
    fields: tuple[str, ...]
    policy: str
    content: str
    operator: str = ""
    texts: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()


class Step(msgspec.Struct, omit_defaults=True):
    """Each record, in order. head: number of the signed head under which it is proved; 0: none
    yet."""

    t: str
    log: str
    seq: int
    event: str
    hash: str
    head: int
    verb: str = ""
    outcome: str = ""
    detail: str = ""
    operator: str = ""
    recipient: str = ""


class Proof(msgspec.Struct):
    """Of one check. says: all of it in plain words. proofs: for docs/verify_audit.py --proof."""

    receipt: str
    check: str
    says: str
    question: Question | None
    consultations: list[Consultation]
    shown: list[Shown]
    records: list[Step]
    proofs: list[Inclusion]


class _Body(msgspec.Struct):
    """A record's members, as they were hashed."""

    event: str
    at_ms: int
    check: str = ""
    terminal: str = ""
    officer: str = ""
    agency: str = ""
    role: str = ""
    operator: str = ""
    reason: str = ""
    operation: str = ""
    outcome: str = ""
    recipient: str = ""
    fields: tuple[str, ...] = ()
    level: str = ""
    policy: str = ""
    attempt: int = 0
    detail: str = ""
    booking: str = ""
    on_behalf: str = ""
    parent: str = ""
    source: str = ""
    verb: str = ""
    commitment: str = ""


class _Result(msgspec.Struct):
    """What of a stored Result or Notice was read."""

    text: str = ""
    texts: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()


DISCLOSURES = frozenset({"disclosed", "duplicate", "shown", "message"})


def proofs_of(url: str, heads: Path, keys: Sequence[Path], receipt: str) -> Iterator[Proof]:
    """One for the check that has this receipt; none when no record has it.

    Every record is held against its commitment, its place and a signed head before a word is said.
    Raises ChainBroken, LedgerUnavailable. Read-only.
    """
    with reading(url) as db:
        found = of_receipt(db, receipt)
        if not found:
            return
        prover = Prover(db, heads, keys)
        checks: dict[str, list[Leaf]] = {}
        for leaf in found:
            verify_leaf(leaf)
            checks.setdefault(_body(leaf).check, []).append(leaf)
        for check, leaves in checks.items():
            yield _proof(receipt, check, leaves, [prover.of(leaf) for leaf in leaves])


def _proof(
    receipt: str, check: str, leaves: list[Leaf], proofs: Sequence[Inclusion | None]
) -> Proof:
    bodies = [_body(leaf) for leaf in leaves]
    pairs = [*zip(leaves, bodies, strict=True)]
    proof = Proof(
        receipt=receipt,
        check=check,
        says="",
        question=next((_question(*pair) for pair in pairs if pair[1].event == "opened"), None),
        consultations=[_consultation(*pair) for pair in pairs if pair[1].event == "asked"],
        shown=[_shown(*pair) for pair in pairs if pair[1].event in DISCLOSURES],
        records=[
            _step(leaf, body, under.head.seq if under else 0)
            for (leaf, body), under in zip(pairs, proofs, strict=True)
        ],
        proofs=[each for each in proofs if each is not None],
    )
    proof.says = _words(proof)
    return proof


def _question(leaf: Leaf, body: _Body) -> Question:
    return Question(
        t=_moment(body.at_ms),
        terminal=body.terminal,
        officer=body.officer,
        agency=body.agency,
        role=body.role,
        reason=body.reason,
        operation=body.operation,
        policy=body.policy,
        content=_where(leaf, body),
        operator=body.operator,
        booking=body.booking,
        on_behalf=body.on_behalf,
        parent=body.parent,
        said=_members(leaf),
    )


def _consultation(leaf: Leaf, body: _Body) -> Consultation:
    return Consultation(
        t=_moment(body.at_ms),
        source=body.source or "PNC",
        attempt=body.attempt,
        content=_where(leaf, body),
        originator=_members(leaf).get("originator", ""),
    )


def _shown(leaf: Leaf, body: _Body) -> Shown:
    result = _Result()
    if leaf.content is not None:
        try:
            result = msgspec.json.decode(leaf.content, type=_Result)
        except msgspec.DecodeError:
            result = _Result(texts=(leaf.content.decode(errors="replace"),))
    return Shown(
        t=_moment(body.at_ms),
        event=body.event,
        recipient=body.recipient,
        level=body.level,
        fields=body.fields,
        policy=body.policy,
        content=_where(leaf, body),
        operator=body.operator,
        texts=result.texts or tuple(filter(None, [result.text])),
        pages=result.pages,
    )


def _step(leaf: Leaf, body: _Body, head: int) -> Step:
    return Step(
        t=_moment(body.at_ms),
        log=leaf.log,
        seq=leaf.seq,
        event=body.event,
        hash=leaf.hash,
        head=head,
        verb=body.verb,
        outcome=body.outcome,
        detail=body.detail,
        operator=body.operator,
        recipient=body.recipient,
    )


def _body(leaf: Leaf) -> _Body:
    return msgspec.json.decode(leaf.record, type=_Body)


def _members(leaf: Leaf) -> dict[str, str]:
    if leaf.content is None:
        return {}
    try:
        return msgspec.json.decode(leaf.content, type=dict[str, str])
    except msgspec.DecodeError:
        return {}


def _where(leaf: Leaf, body: _Body) -> str:
    if not body.commitment:
        return NONE
    return PURGED if leaf.content is None else HELD


def _moment(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --------------------------------------------------------------------------- plain words


def _words(proof: Proof) -> str:
    said = [_asked(proof)]
    for each in proof.consultations:
        line = f" as {each.originator!r}" if each.originator else ""
        said.append(f"At {each.t} {each.source} was asked, attempt {each.attempt}{line}.")
    ends = [step for step in proof.records if step.outcome and step.verb != "disclosure"]
    said += [
        f"At {step.t} it ended: {step.outcome}{f' ({step.detail})' if step.detail else ''}."
        for step in ends
    ]
    said += [_told(each) for each in proof.shown]
    if not proof.shown:
        said.append("Nothing of the answer was shown to anybody.")
    said += [
        f"At {step.t} it was {step.event}."
        for step in proof.records
        if step.event in ("delivered", "read", "stale")
    ]
    held = {each.content for each in (proof.question, *proof.consultations, *proof.shown) if each}
    if PURGED in held:
        said.append(
            "The words of it were destroyed when their time was over; "
            "that they were these fields at this level stands in the record."
        )
    said.append(_sealed(proof))
    return " ".join(said)


def _asked(proof: Proof) -> str:
    who = f"Receipt {proof.receipt} is of check {proof.check}."
    asked = proof.question
    if asked is None:
        return f"{who} No question to it is on record."
    what = asked.said.get("key", "")
    what = (
        f": {what}"
        if what
        else ", whom or what is no longer known"
        if asked.content == PURGED
        else ""
    )
    by = f", keyed by operator {asked.operator}" if asked.operator else ""
    on_behalf = f", on behalf of {asked.on_behalf}" if asked.on_behalf else ""
    why = f" for reason {asked.reason}" if asked.reason else " without a reason"
    free = asked.said.get("justification", "")
    words = f" ({free!r})" if free else ""
    place = asked.said.get("location", "")
    where = f" at {place!r}" if place else ""
    parent = f" It completes check {asked.parent}." if asked.parent else ""
    return (
        f"{who} At {asked.t} officer {asked.officer or 'unknown'} ({asked.agency}, {asked.role}) "
        f"asked from terminal {asked.terminal}{by}{on_behalf} about a {asked.operation or 'thing'}"
        f"{what},{why}{words}{where}, under policy {asked.policy}.{parent}"
    )


def _told(shown: Shown) -> str:
    fields = ", ".join(shown.fields) or "no fields"
    by = f" by {shown.operator}" if shown.operator else ""
    again = " again" if shown.event == "duplicate" else ""
    level = f" at level {shown.level}" if shown.level else ""
    return (
        f"At {shown.t} {shown.recipient or shown.operator or 'somebody'} was shown{again}{by}"
        f"{level} under policy {shown.policy}: {fields}."
    )


def _sealed(proof: Proof) -> str:
    under = [step.head for step in proof.records if step.head]
    open_ = len(proof.records) - len(under)
    if not under:
        return "No signed head is over these records yet: the next one is due within a minute."
    newest = max((each.head for each in proof.proofs), key=lambda head: head.seq)
    said = (
        f"{len(under)} records of it are proved to stand under head {newest.seq}, signed at "
        f"{_moment(newest.at_ms)} by key {newest.key}"
    )
    return f"{said}; {open_} are newer than any head." if open_ else f"{said}."
