"""Who is logged in: tokens by their hash, with an end. Pure: time and chance are handed in.

A token is 256 bits of chance, given away once, and kept as its SHA-256 alone: whoever reads the
store can be nobody. A session is new with each log-in, ends after a time without an act or after
its whole time, and a person has no more than so many.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec

TOKEN_BYTES = 32
SESSIONS_MOST = 1000
IDLE, WHOLE, REPLACED = "idle", "whole time over", "replaced by a newer one"


class Session(msgspec.Struct, kw_only=True):
    """Times are monotonic seconds. stand: of the operator's entry at the log-in."""

    key: str
    """SHA-256 of the token; its first letters are what others may call the session."""
    operator: str
    stand: str
    roles: frozenset[str]
    begun_s: float
    active_s: float
    how: str = "local"

    @property
    def name(self) -> str:
        return self.key[:12]


class Kept(msgspec.Struct, kw_only=True):
    """A session as it is kept over a restart; the key is the row's id."""

    operator: str
    stand: str
    roles: list[str]
    begun_ms: int
    active_ms: int
    how: str = "local"


def key_of(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def csrf_of(token: str) -> str:
    """What a change must bring besides the cookie: only who may read our answers can know it."""
    mac = hmac.digest(token.encode(errors="surrogatepass"), b"csrf", hashlib.sha256)
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def _chance() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


class Sessions:
    """All of them; bounded."""

    def __init__(
        self,
        *,
        idle_s: float,
        absolute_s: float,
        each: int,
        token: Callable[[], str] = _chance,
    ) -> None:
        self._idle_s = idle_s
        self._absolute_s = absolute_s
        self._each = each
        self._token = token
        self._open: dict[str, Session] = {}

    def open(
        self, operator: str, stand: str, roles: frozenset[str], now_s: float, how: str = "local"
    ) -> tuple[str, Session, list[tuple[Session, str]]]:
        """A new one: its token, itself, and which had to end for it (and why)."""
        ended = self.sweep(now_s)
        own = [each for each in self._open.values() if each.operator == operator]
        own.sort(key=lambda each: each.active_s)
        spare = own[: max(0, len(own) - self._each + 1)]
        if len(self._open) - len(spare) >= SESSIONS_MOST:
            spare.append(min(self._open.values(), key=lambda each: each.active_s))
        for each in spare:
            del self._open[each.key]
            ended.append((each, REPLACED))
        token = self._token()
        session = Session(
            key=key_of(token),
            operator=operator,
            stand=stand,
            roles=roles,
            begun_s=now_s,
            active_s=now_s,
            how=how,
        )
        self._open[session.key] = session
        return token, session, ended

    def find(self, token: str, now_s: float) -> Session | None:
        """Whose token this is, while it holds. Asking is no act."""
        session = self._open.get(key_of(token))
        return session if session is not None and not self._over(session, now_s) else None

    def holds(self, session: Session, now_s: float) -> bool:
        return self._open.get(session.key) is session and not self._over(session, now_s)

    def act(self, session: Session, now_s: float) -> None:
        """They did something: the time without an act begins anew."""
        session.active_s = now_s

    def end(self, key: str) -> Session | None:
        """It is over from now on."""
        return self._open.pop(key, None)

    def named(self, name: str) -> Session | None:
        return next((each for each in self._open.values() if each.name == name), None)

    def active_s(self, key: str) -> float:
        return self._open[key].active_s

    def all(self) -> list[Session]:
        return list(self._open.values())

    def sweep(self, now_s: float) -> list[tuple[Session, str]]:
        """Take out what is over, and why."""
        over = [(each, why) for each in self._open.values() if (why := self._over(each, now_s))]
        for each, _ in over:
            del self._open[each.key]
        return over

    def _over(self, session: Session, now_s: float) -> str:
        if now_s - session.begun_s >= self._absolute_s:
            return WHOLE
        return IDLE if now_s - session.active_s >= self._idle_s else ""

    # ------------------------------------------------------------------ over a restart

    def kept(self, session: Session, now_s: float, now_ms: int) -> bytes:
        return msgspec.json.encode(
            Kept(
                operator=session.operator,
                stand=session.stand,
                roles=sorted(session.roles),
                begun_ms=now_ms - round((now_s - session.begun_s) * 1000),
                active_ms=now_ms - round((now_s - session.active_s) * 1000),
                how=session.how,
            )
        )

    def restore(self, key: str, body: bytes, now_s: float, now_ms: int) -> bool:
        """Whether it goes on. Not if it is over, cannot be read, or lies in the future: then the
        clock was set back, and nobody knows how old it is."""
        try:
            kept = msgspec.json.decode(body, type=Kept)
        except msgspec.DecodeError:
            return False
        if not kept.begun_ms <= kept.active_ms <= now_ms:
            return False
        session = Session(
            key=key,
            operator=kept.operator,
            stand=kept.stand,
            roles=frozenset(kept.roles),
            begun_s=now_s - (now_ms - kept.begun_ms) / 1000,
            active_s=now_s - (now_ms - kept.active_ms) / 1000,
            how=kept.how,
        )
        if self._over(session, now_s) or len(self._open) >= SESSIONS_MOST:
            return False
        self._open[key] = session
        return True
