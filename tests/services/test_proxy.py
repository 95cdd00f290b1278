"""What the proxy says it does to a connection, it does: the proofs that use it depend on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from tests.services.proxy import Mode, Proxy, between

WITHIN_S = 5.0


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with between(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def line(proxy: Proxy) -> Line:
    """A connection over which a word went there and back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said((reader, writer), b"hello") == b"hello"
    return reader, writer


async def said(line: Line, word: bytes, within_s: float = WITHIN_S) -> bytes:
    """What comes back for this word; b"" when the connection ends."""
    line[1].write(word)
    async with asyncio.timeout(within_s):
        return await line[0].read(1000)


async def test_held_nothing_is_lost(proxy: Proxy) -> None:
    at = await line(proxy)
    proxy.become(Mode.HOLD)
    with pytest.raises(TimeoutError):
        await said(at, b"one", 0.1)
    proxy.heal()
    assert await said(at, b"") == b"one"
    at[1].close()


async def test_what_went_into_a_black_hole_stays_there(proxy: Proxy) -> None:
    """The connection looks open on both sides and is dead for good; a new one passes."""
    at = await line(proxy)
    proxy.become(Mode.BLACK_HOLE)
    with pytest.raises(TimeoutError):
        await said(at, b"one", 0.1)
    proxy.heal()
    with pytest.raises(TimeoutError):
        await said(at, b"two", 0.1)
    other = await line(proxy)
    for each in (at, other):
        each[1].close()


async def test_who_vanished_acknowledges_nothing(proxy: Proxy) -> None:
    """TCP_USER_TIMEOUT ends it, which a mere black hole never brings about; new connections meet
    silence, and healed they are made."""
    at = await line(proxy)
    sock = at[1].get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    proxy.become(Mode.VANISH)
    with pytest.raises((TimeoutError, OSError)) as caught:
        await said(at, b"one")
    assert getattr(caught.value, "errno", None), "the kernel gave up, not this test"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.heal()
    (await line(proxy))[1].close()


async def test_vanished_and_back_tcp_repeats_it(proxy: Proxy) -> None:
    at = await line(proxy)
    proxy.become(Mode.VANISH)
    with pytest.raises(TimeoutError):
        await said(at, b"one", 0.1)
    proxy.heal()
    assert await said(at, b"") == b"one"
    at[1].close()


async def test_reset_now_and_at_once(proxy: Proxy) -> None:
    at = await line(proxy)
    proxy.become(Mode.RESET)
    for each in (at, await asyncio.open_connection("127.0.0.1", proxy.port)):
        with pytest.raises(ConnectionResetError):
            await said(each, b"one")


async def test_cut_off_and_turned_over(proxy: Proxy) -> None:
    """Only towards who came to us."""
    at = await line(proxy)
    proxy.every = 3
    proxy.become(Mode.FLIP)
    assert await said(at, b"aaaa") == b"aa`a"
    proxy.most = 2
    proxy.become(Mode.TRUNCATE)
    assert await said(at, b"one") == b"on"
    assert await said(at, b"") == b""
    at[1].close()
