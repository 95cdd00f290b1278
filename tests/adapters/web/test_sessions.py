"""Sessions: they end when they must, no sooner, and nobody has too many."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.web import sessions
from adapters.web.sessions import Sessions, csrf_of

OPERATOR = frozenset({"operator"})
IDLE_S, WHOLE_S, EACH = 900.0, 43_200.0, 2


def store() -> Sessions:
    return Sessions(idle_s=IDLE_S, absolute_s=WHOLE_S, each=EACH)


def test_a_token_is_long_new_each_time_and_kept_nowhere() -> None:
    """256 bits; in the store and in what is kept there is its hash alone."""
    ours = store()
    first, session, _ = ours.open("ann", "e1", OPERATOR, 0.0)
    second, other, _ = ours.open("ann", "e1", OPERATOR, 0.0)
    assert len(first) >= 43
    assert len({first, second, csrf_of(first), csrf_of(second)}) == 4
    assert ours.find(first, 1.0) is session
    assert ours.find(second, 1.0) is other
    kept = ours.kept(session, 1.0, 10_000).decode() + repr(ours.all())
    assert first not in kept
    assert session.key == hashlib.sha256(first.encode()).hexdigest()


def test_an_end_is_an_end() -> None:
    ours = store()
    token, session, _ = ours.open("ann", "e1", OPERATOR, 0.0)
    assert ours.named(session.name) is session
    assert ours.end(session.key) is session
    assert ours.find(token, 0.0) is None
    assert not ours.holds(session, 0.0)
    assert ours.end(session.key) is None


def test_what_nobody_was_given_is_nobody() -> None:
    ours = store()
    _, session, _ = ours.open("ann", "e1", OPERATOR, 0.0)
    for token in ("", session.key, session.name, "x" * 5000, "\ud800"):
        assert ours.find(token, 0.0) is None


Step = tuple[str, int, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "act", "find", "end", "wait", "restart"]),
        st.integers(0, 5),
        st.floats(0.0, 20_000.0),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(STEPS)
def test_any_sequence_keeps_idle_whole_time_and_number(steps: list[Step]) -> None:
    """Against a model that counts nothing but times: who is in, and who is not, at each moment,
    also over a restart of the process."""
    ours, now_s = store(), 0.0
    model: dict[str, tuple[str, float, float]] = {}
    tokens: list[str] = []

    def valid(token: str) -> bool:
        if token not in model:
            return False
        _, begun_s, active_s = model[token]
        return now_s - begun_s < WHOLE_S and now_s - active_s < IDLE_S

    for verb, which, seconds in steps:
        token = tokens[which % len(tokens)] if tokens else ""
        session = ours.find(token, now_s)
        assert (session is not None) == valid(token)
        match verb:
            case "open":
                operator = ("ann", "bob")[which % 2]
                new, _, _ = ours.open(operator, "e", OPERATOR, now_s)
                own = [t for t in tokens if valid(t) and model[t][0] == operator]
                own.sort(key=lambda t: model[t][2])
                for old in own[: max(0, len(own) - EACH + 1)]:
                    # Of those that were active last at the same time, any may go.
                    gone = [t for t in own if ours.find(t, now_s) is None]
                    assert len(gone) == max(0, len(own) - EACH + 1)
                    assert all(model[t][2] <= model[old][2] for t in gone)
                for t in own:
                    if ours.find(t, now_s) is None:
                        del model[t]
                tokens.append(new)
                model[new] = (operator, now_s, now_s)
            case "act" if session is not None:
                ours.act(session, now_s)
                model[token] = (*model[token][:2], now_s)
            case "end" if session is not None:
                ours.end(session.key)
                del model[token]
            case "wait":
                now_s += seconds
                over = {each.key for each, _ in ours.sweep(now_s)}
                assert not any(sessions.key_of(t) in over for t in tokens if valid(t))
            case "restart":
                now_ms = round(now_s * 1000) + 1_000_000
                rows = [(each.key, ours.kept(each, now_s, now_ms)) for each in ours.all()]
                ours = store()
                for key, body in rows:
                    ours.restore(key, body, now_s, now_ms)
        assert sum(valid(t) and model[t][0] == "ann" for t in tokens) <= EACH


def test_a_restart_logs_nobody_in_and_nobody_out() -> None:
    """What was idle too long meanwhile is over; a clock that was set back cannot make it young."""
    before = store()
    _, session, _ = before.open("ann", "e1", OPERATOR, 100.0)
    body = before.kept(session, 100.0, 1_000_000)
    for later_s, goes_on in ((0.0, True), (899.0, True), (900.0, False), (-1.0, False)):
        after = store()
        now_ms = 1_000_000 + round(later_s * 1000)
        assert after.restore(session.key, body, 5.0, now_ms) is goes_on
        assert len(after.all()) == goes_on
    assert not store().restore("k", b"{", 0.0, 0)
