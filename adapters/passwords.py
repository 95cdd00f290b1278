"""Second factors and passwords: Argon2id, kept as PHC strings, checked off the loop.

Each check costs about 25 ms and 19 MiB, on purpose, so few run at once and few may wait: whoever
comes after those is told to come again (FactorsBusy), and nobody can fill the memory or starve the
loop by guessing. Somebody whom nobody knows costs the same work, so time tells nobody who exists.

Figures: OWASP Password Storage Cheat Sheet, Argon2id (19 MiB, 2 iterations, 1 lane). cryptography
lets go of the interpreter while it works.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from gateway.errors import FactorsBusy
from gateway.messages import Secret

MEMORY_KIB = 19_456
ITERATIONS = 2
LANES = 1
AT_ONCE = 2
QUEUE = 32
"""How many may wait; at two at once the last of them waits under a second."""


class Passwords:
    """gateway.ports.Factors. One for all who check anything: the bounds hold for them together."""

    def __init__(
        self, *, memory_kib: int = MEMORY_KIB, at_once: int = AT_ONCE, queue: int = QUEUE
    ) -> None:
        self._memory_kib = memory_kib
        self._most = at_once + queue
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="factors")
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many are being checked or wait for it."""
        return self._taken

    async def matches(self, stored: str, given: Secret) -> bool:
        """Raises FactorsBusy when too many wait; nothing was checked then."""
        with self._lock:
            if self._taken >= self._most:
                raise FactorsBusy
            self._taken += 1
        future = self._threads.submit(self._check, stored, given)
        # Given back when the work is over, not when whoever asked goes away.
        future.add_done_callback(self._over)
        return await asyncio.wrap_future(future)

    def made(self, given: Secret) -> str:
        """What to store. Blocks for as long as a check."""
        return self._kdf().derive_phc_encoded(given.reveal().encode())

    def close(self) -> None:
        """Nothing more is taken, what waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _over(self, _: Future[bool]) -> None:
        with self._lock:
            self._taken -= 1

    def _kdf(self) -> Argon2id:
        return Argon2id(
            salt=os.urandom(16),
            length=32,
            iterations=ITERATIONS,
            lanes=LANES,
            memory_cost=self._memory_kib,
        )

    def _check(self, stored: str, given: Secret) -> bool:
        if not stored:
            self.made(given)
            return False
        try:
            Argon2id.verify_phc_encoded(given.reveal().encode(), stored)
        except InvalidKey:
            return False
        return True
