"""Connecting holds up nothing else: a resolver that never answers, an address that is silent."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from adapters.dialling import Address, Lookup, NameNotFound, dial, in_own_thread

HOST = "broker.invalid"


def address(port: int, host: str = "127.0.0.1") -> Address:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


class Resolver:
    """Stands for the system's: blocks until `go`, then answers or fails."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0
        self.fails = False

    def __call__(self, host: str, port: int, **_: object) -> list[Address]:
        self.calls += 1
        self.go.wait(20)
        if self.fails:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return [address(port)]


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.go.set()


async def test_a_silent_resolver_costs_its_deadline_and_one_thread(resolver: Resolver) -> None:
    """M16: however often and by however many it is asked; the pool of all stays free."""
    lookup = Lookup(resolver)
    asked = [lookup.find(HOST, 1883, within_s=0.05) for _ in range(20)]
    started_s = time.monotonic()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert {str(each) for each in results} == {"name lookup does not answer"}
    assert all(isinstance(each, NameNotFound) for each in results)
    with pytest.raises(NameNotFound):
        await lookup.find(HOST, 1883, within_s=0.05)
    assert resolver.calls == 1
    assert time.monotonic() - started_s < 5
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: 1) == 1


async def test_what_was_found_last_serves_while_nothing_new_is_found(resolver: Resolver) -> None:
    """A name service that is down must not keep us from a broker that is up."""
    lookup = Lookup(resolver)
    resolver.go.set()
    assert await lookup.find(HOST, 1883, within_s=5) == (address(1883),)
    resolver.fails = True
    assert await lookup.find(HOST, 1883, within_s=5) == (address(1883),)
    resolver.go.clear()
    assert await lookup.find(HOST, 1883, within_s=0.05) == (address(1883),)
    assert resolver.calls == 3


async def test_a_name_that_is_not_known_is_said_without_the_name(resolver: Resolver) -> None:
    resolver.fails = True
    resolver.go.set()
    with pytest.raises(NameNotFound) as caught:
        await Lookup(resolver).find(HOST, 1883, within_s=5)
    assert str(caught.value) == "name not found"


async def test_an_address_needs_no_thread() -> None:
    """Else a silent resolver would hold up a broker that is configured by its address."""
    before = threading.active_count()
    found = await Lookup().find("127.0.0.1", 1883, within_s=0.0)
    assert found[0][4] == ("127.0.0.1", 1883)
    assert threading.active_count() == before


async def test_the_next_address_is_tried(resolver: Resolver) -> None:
    """The first one refuses; options hold from the start on the one that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            refusing = closed.getsockname()[1]
            nodelay = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = dial([address(refusing), address(port)], within_s=5, options=[nodelay])
        assert sock.getpeername()[1] == port
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


def test_addresses_that_are_silent_cost_the_deadline_in_all() -> None:
    """A server whose queue is full drops our SYN: as silent as a host that is off."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        where = server.getsockname()
        fill = [socket.socket() for _ in range(4)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(where)
        started_s = time.monotonic()
        with pytest.raises(TimeoutError):
            dial([address(where[1])] * 6, within_s=0.4)
        assert time.monotonic() - started_s < 2
        for each in fill:
            each.close()


async def test_work_in_a_thread_of_its_own_brings_result_or_fault() -> None:
    def fault() -> None:
        raise OSError("x")

    assert await in_own_thread(lambda: 7) == 7
    with pytest.raises(OSError, match="x"):
        await in_own_thread(fault)


def test_a_thread_may_outlive_its_loop() -> None:
    """Given up at exit: neither a wait for it nor a complaint from it."""
    go, failures = threading.Event(), list[object]()
    before = threading.excepthook
    threading.excepthook = failures.append

    async def give_up() -> None:
        future = in_own_thread(lambda: go.wait(20))
        await asyncio.wait({future}, timeout=0.01)

    try:
        started_s = time.monotonic()
        asyncio.run(give_up())
        assert time.monotonic() - started_s < 5
        go.set()
        for thread in threading.enumerate():
            if thread.name == "dialling":
                thread.join(5)
        assert failures == []
    finally:
        go.set()
        threading.excepthook = before
