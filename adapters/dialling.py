"""TCP connections, opened without holding up anything else: not the loop, not other threads.

The problem: connecting and looking up a name block. The system's resolver is silent for half a
minute when its servers are, and a thread in it cannot be cancelled. In the pool that all of asyncio
shares, a few such threads would hold up whoever else needs one (the PNC's token, the ledger's
close) and, at exit, the process. So what blocks here has a thread of its own, a daemon that holds
up no exit; a name has at most one; whoever waits has a deadline; and what was found last serves
while nothing new is found (failure catalogue, M16).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...]]
"""One line of `socket.getaddrinfo`."""

MOST_ADDRESSES = 4
"""So many are tried in one attempt; the next attempt may find them in another order."""


class NameNotFound(OSError):
    """Nothing is known of this name, now or from before. Never says the name."""


def in_own_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run what blocks in a daemon thread; the future may be given up, the thread ends by itself."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # T may be None

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        # Whatever it is belongs to who asked, not to a thread that nobody looks at.
        except Exception as error:  # noqa: BLE001
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(finish, result, fault)

    threading.Thread(target=run, name="dialling", daemon=True).start()
    return future


class Lookup:
    """Names to addresses. One thread a name, one answer for all who ask meanwhile."""

    def __init__(
        self,
        resolve: Callable[..., Iterable[Address]] = socket.getaddrinfo,  # type: ignore[assignment]
    ) -> None:
        self._resolve = resolve
        self._found: dict[tuple[str, int], tuple[Address, ...]] = {}
        self._asking: dict[tuple[str, int], asyncio.Future[tuple[Address, ...]]] = {}

    async def find(self, host: str, port: int, *, within_s: float) -> Sequence[Address]:
        """Addresses to try, in order; those of last time when there is no answer in time.

        Raises NameNotFound when there never was one.
        """
        if _is_address(host):
            return tuple(self._resolve(host, port, type=socket.SOCK_STREAM))
        asked = self._ask(host, port)
        await asyncio.wait({asked}, timeout=within_s)
        if asked.done() and not asked.cancelled() and asked.exception() is None:
            self._found[host, port] = asked.result()
            return asked.result()
        known = self._found.get((host, port))
        if known is None:
            raise NameNotFound("name not found" if asked.done() else "name lookup does not answer")
        return known

    def _ask(self, host: str, port: int) -> asyncio.Future[tuple[Address, ...]]:
        loop = asyncio.get_running_loop()
        asked = self._asking.get((host, port))
        if asked is None or asked.done() or asked.get_loop() is not loop:
            asked = self._asking[host, port] = in_own_thread(
                lambda: tuple(self._resolve(host, port, type=socket.SOCK_STREAM))
            )
            # Looked at here as well: whoever asked may have given up before the answer.
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asked


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def dial(
    addresses: Sequence[Address],
    *,
    within_s: float,
    options: Iterable[tuple[int, int, int]] = (),
) -> socket.socket:
    """Connect to the first address that answers, blocking at most within_s in all.

    options: set before connecting, so that they hold from the first byte. Raises OSError.
    """
    until_s = time.monotonic() + within_s
    tried = list(addresses[:MOST_ADDRESSES])
    fault: OSError = NameNotFound("no address")
    for place, (family, kind, protocol, _, address) in enumerate(tried):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(left_s / (len(tried) - place))
            sock.connect(address)
        except OSError as error:
            sock.close()
            fault = error
        else:
            return sock
    raise fault


async def connected(
    addresses: Sequence[Address],
    *,
    within_s: float,
    options: Iterable[tuple[int, int, int]] = (),
) -> socket.socket:
    """`dial` in a thread of its own; given up, it closes by itself what it connects later."""
    dialling = in_own_thread(lambda: dial(addresses, within_s=within_s, options=options))
    try:
        await asyncio.wait({dialling})
    finally:
        if not dialling.done():
            dialling.add_done_callback(_let_go)
    return dialling.result()


def _let_go(dialled: asyncio.Future[socket.socket]) -> None:
    """Nobody waits for it any more."""
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().close()
