"""How often somebody may try to log in: by account, and by address. Pure: time is handed in.

After five failures of an account each further try has to wait, twice as long each time, up to a
quarter of an hour. A supervisor's account waits at most half a minute, and only for the address
that failed: nobody can lock the last supervisor out by failing on purpose from elsewhere. An
address that failed twenty times in a minute waits whatever the account. Tries that came too early
are not looked at, and do not count.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

FREE = 5
FIRST_S = 2.0
MOST_S = 900.0
FORGET_S = 3600.0
"""Longer than any pause: who waits a pause out begins no new five."""
SUPERVISOR_MOST_S = 30.0
ADDRESS_FREE = 20
ADDRESS_S = 60.0
KEYS_MOST = 4096
"""Accounts and addresses that are remembered; the longest quiet is forgotten first."""


class _Failures(msgspec.Struct):
    count: int
    at_s: float


class Throttle:
    def __init__(self) -> None:
        self._accounts: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._addresses: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, account: str, address: str, now_s: float, *, supervisor: bool) -> float:
        """How long until this may be tried; 0: now."""
        failed = self._accounts.get(_key(account, address, supervisor))
        due_s = 0.0
        if failed is not None and failed.count >= FREE and now_s - failed.at_s < FORGET_S:
            most_s = SUPERVISOR_MOST_S if supervisor else MOST_S
            # Beyond 2^16 the power is larger than any pause; and a power of its own grows.
            pause_s = min(most_s, FIRST_S * 2.0 ** min(failed.count - FREE, 16))
            due_s = failed.at_s + pause_s
        crowd = self._addresses.get(address)
        if crowd is not None and crowd.count >= ADDRESS_FREE:
            due_s = max(due_s, crowd.at_s + ADDRESS_S)
        return max(0.0, due_s - now_s)

    def failed(self, account: str, address: str, now_s: float, *, supervisor: bool) -> None:
        key = _key(account, address, supervisor)
        before = self._accounts.pop(key, None)
        known = before is not None and now_s - before.at_s < FORGET_S
        self._accounts[key] = _Failures(before.count + 1 if before and known else 1, now_s)
        crowd = self._addresses.pop(address, None)
        if crowd is None or now_s - crowd.at_s >= ADDRESS_S:
            crowd = _Failures(0, now_s)  # a window, from its first failure
        crowd.count += 1
        self._addresses[address] = crowd
        for table in (self._accounts, self._addresses):
            while len(table) > KEYS_MOST:
                table.popitem(last=False)

    def passed(self, account: str, address: str, *, supervisor: bool) -> None:
        """They are in: their own failures are forgotten, and this try is none of the address's."""
        self._accounts.pop(_key(account, address, supervisor), None)
        crowd = self._addresses.get(address)
        if crowd is not None and crowd.count > 0:
            crowd.count -= 1


def _key(account: str, address: str, supervisor: bool) -> tuple[str, str]:
    return (account, address if supervisor else "")
