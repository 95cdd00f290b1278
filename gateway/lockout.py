"""Who tried too often: so many wrong ones, then wait, and each time twice as long (pure).

An attempt counts when it begins and is forgiven when it was right: of many at once no more are
tried than of many in a row.
"""

from __future__ import annotations

import msgspec

LONGEST_S = 12 * 3600.0
FORGET_S = 24 * 3600.0
"""After a day without a wrong one the wait is as short as the first time."""


class _Tries(msgspec.Struct):
    first_s: float
    count: int = 0
    locks: int = 0
    until_s: float = 0.0
    last_s: float = 0.0


class Lockout:
    """Keys are what the caller knows (officers, radios): it is bounded by them."""

    def __init__(self, *, attempts: int, lock_s: float) -> None:
        self._attempts = attempts
        self._lock_s = lock_s
        self._tries: dict[str, _Tries] = {}

    def begin(self, key: str, now_s: float) -> bool:
        """Whether one more may be tried now; it counts from here on."""
        tries = self._tries.setdefault(key, _Tries(first_s=now_s))
        tries.last_s = now_s
        if now_s < tries.until_s:
            return False
        if now_s - tries.first_s > self._lock_s:
            tries.first_s, tries.count = now_s, 0
        if tries.count >= self._attempts:
            return False
        tries.count += 1
        return True

    def wrong(self, key: str, now_s: float) -> bool:
        """It was wrong; whether that was one too many."""
        tries = self._tries.get(key)
        if tries is None or tries.count < self._attempts or now_s < tries.until_s:
            return False
        tries.until_s = now_s + min(LONGEST_S, self._lock_s * 2.0 ** min(tries.locks, 16))
        tries.locks += 1
        tries.first_s, tries.count = tries.until_s, 0
        return True

    def right(self, key: str) -> None:
        """Whoever it was is who they say; what was mistyped before is forgiven."""
        self._tries.pop(key, None)

    def unjudged(self, key: str) -> None:
        """It was neither: nobody looked."""
        tries = self._tries.get(key)
        if tries is not None and tries.count:
            tries.count -= 1

    def sweep(self, now_s: float) -> None:
        """Forget who has tried nothing for a day."""
        for key in [k for k, each in self._tries.items() if now_s - each.last_s > FORGET_S]:
            if now_s >= self._tries[key].until_s:
                del self._tries[key]
