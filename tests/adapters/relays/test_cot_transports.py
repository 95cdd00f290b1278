"""Cursor on Target on real sockets, all on loopback; read by PyTAK, a client that is not ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import msgspec
import pytak
import pytest

from adapters.dialling import Lookup
from adapters.relays.cot_transports import HEARD_MOST, Events, opened
from gateway.errors import LinkDown
from gateway.settings import CotSection
from tests.adapters.relays.cot_schema import checked
from tests.contracts.test_relays import EAST, EMERGENCY, NORTH, WITHIN_S, Rig, Tak, place
from tests.services.pki import Pki
from tests.services.tak_server import TakServer, mutual

GROUP, LOOPBACK = "239.2.3.1", "127.0.0.1"


async def opens(section: CotSection, folder: Path, looks_s: float = WITHIN_S) -> None:
    """Open it, and let it go after so long. Raises LinkDown; TimeoutError: it held."""
    async with opened(
        section,
        config_path=folder / "gateway.toml",
        lookup=Lookup(),
        pinged=lambda: None,
        heard=lambda _count: None,
    ) as line:
        # In TLS 1.3 it is the first read that says what the server thinks of our certificate.
        async with asyncio.timeout(looks_s):
            raise LinkDown(await line.broken())


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not ready():  # noqa: ASYNC110 - it comes from a socket, without an event
            await asyncio.sleep(0.01)


# --------------------------------------------------------------------------- read by PyTAK


class Client:
    """PyTAK as its own programs use it: a reader by URL, a worker that fills a queue."""

    def __init__(self, url: str, **config: str) -> None:
        parser = ConfigParser()
        parser["tak"] = {"COT_URL": url, **config}
        self._config = parser["tak"]
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        reader, self._writer = await pytak.protocol_factory(self._config)
        worker = pytak.RXWorker(self.queue, self._config, reader)
        self._task = asyncio.ensure_future(worker.run())

    async def heard(self, most: int) -> dict[str, Any]:
        """So many events, by type and uid, each by the rules of the schema."""
        found = {}
        async with asyncio.timeout(WITHIN_S):
            while len(found) < most:
                event = checked(await self.queue.get())
                found[event.attrib["type"], event.attrib["uid"]] = event
        return found

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._writer.close()


@pytest.fixture(params=["tcp", "tls", "multicast"])
async def received(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Client, CotSection]]:
    transport, server = request.param, None
    if transport == "multicast":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        section = CotSection(
            name="tak", transport=transport, host=GROUP, port=port, interface=LOOPBACK, ttl=0
        )
        client = Client(f"udp://{GROUP}:{port}", PYTAK_MULTICAST_LOCAL_ADDR=LOOPBACK)
    else:
        pki = Pki(tmp_path)
        for name in ("server", "gateway", "client"):
            pki.issue(name)
        server = TakServer(mutual(pki) if transport == "tls" else None)
        await server.open()
        section = CotSection(name="tak", transport=transport, port=server.port)
        if transport == "tls":
            section = msgspec.structs.replace(
                section,
                ca_file=pki.path("ca.crt"),
                cert_file=pki.path("gateway.crt"),
                key_file=pki.path("gateway.key"),
            )
        client = Client(
            f"{transport}://{LOOPBACK}:{server.port}",
            PYTAK_TLS_CLIENT_CERT=pki.path("client.crt"),
            PYTAK_TLS_CLIENT_KEY=pki.path("client.key"),
            PYTAK_TLS_CLIENT_CAFILE=pki.path("ca.crt"),
            PYTAK_TLS_SERVER_EXPECTED_HOSTNAME=LOOPBACK,
        )
    await client.open()
    if server is not None:
        await until(lambda: server.clients)
    yield client, section
    await client.close()
    if server is not None:
        await server.shut()


@pytest.mark.filterwarnings("ignore:ssl.OP_NO")  # PyTAK's own
async def test_pytak_reads_what_we_say(received: tuple[Client, CotSection]) -> None:
    """Units and a call for help, to the last digit of their place, over each of the transports."""
    client, section = received
    rig = Rig(Tak(), relay=section)
    rig.fix(place(EAST, 52.572512345678))
    rig.fix(place(NORTH, 52.7))
    rig.alarm(EMERGENCY)
    await rig.opened()
    heard = await client.heard(3)
    assert set(heard) == {
        ("a-f-G-U-C", f"RADIO-{EAST}"),
        ("a-f-G-U-C", f"RADIO-{NORTH}"),
        ("b-a-o-tbl", f"RADIO-{EAST}-9-1-1"),
    }
    point = heard["a-f-G-U-C", f"RADIO-{EAST}"].find("point").attrib
    assert (point["lat"], point["hae"]) == ("52.572512345678", "9999999.0")
    await rig.close()


# --------------------------------------------------------------------------- streams


async def test_a_server_that_pings_is_answered() -> None:
    server = TakServer()
    rig = Rig(Tak(), relay=CotSection(name="tak", port=server.port))
    await server.open()
    await rig.opened()
    await rig.until(lambda: server.clients)
    server.say(b'<?xml version="1.0"?>\n<event version="2.0" uid="x" type="t-x-c-t" how="m-g">')
    server.say(b'<point lat="0"/></event>')
    await rig.until(lambda: server.events)
    assert checked(server.events[0]).attrib["type"] == "t-x-c-t-r"
    assert rig.meter.total("link_receive_bytes_total", link="tak") > 50
    await rig.close()
    await server.shut()


@pytest.mark.parametrize(
    ("said", "pings"),
    [
        (b'<event uid="a" type="t-x-c-t"/></event>', 1),
        (b"<event uid='a' type = 't-x-c-t'></event><event type='t-x-c-t'></event>", 2),
        (b'<event uid="a" type="t-x-c-t-r"></event>', 0),
        (b'<event uid="a" type="a-f-G"><detail type="t-x-c-t"/></event>', 0),
        (b"\xff\x00<<<<&&&</event>", 0),
        (b'<event type="t-x-c-t"', 0),
    ],
)
def test_pings_are_found_in_whatever_comes(said: bytes, pings: int) -> None:
    """Whole, and byte by byte."""
    for pieces in ([said], [bytes([byte]) for byte in said]):
        heard: list[int] = []
        events = Events(lambda heard=heard: heard.append(1))  # type: ignore[misc]
        for piece in pieces:
            events.feed(piece)
        assert len(heard) == pings


def test_what_never_ends_is_not_kept() -> None:
    events = Events(lambda: None)
    for _ in range(100):
        events.feed(b"x" * 10_000)
    assert len(events._rest) <= HEARD_MOST


async def test_a_server_by_a_stranger_s_certificate_is_not_told_anything(tmp_path: Path) -> None:
    pki, strangers = Pki(tmp_path / "ours"), Pki(tmp_path / "theirs")
    pki.issue("gateway")
    strangers.issue("server")
    server = TakServer(mutual(strangers))
    await server.open()
    section = CotSection(
        name="tak",
        transport="tls",
        port=server.port,
        ca_file=pki.path("ca.crt"),
        cert_file=pki.path("gateway.crt"),
        key_file=pki.path("gateway.key"),
    )
    with pytest.raises(LinkDown, match="not trusted") as raised:
        await opens(section, tmp_path)
    assert raised.value.refused
    assert server.events == []
    await server.shut()


async def test_a_server_of_another_name_is_another_server(tmp_path: Path) -> None:
    """The name in its certificate is `host`, or the one that the section names."""
    pki = Pki(tmp_path)
    for name in ("server", "gateway"):
        pki.issue(name)
    server = TakServer(mutual(pki))
    await server.open()
    section = CotSection(
        name="tak",
        transport="tls",
        port=server.port,
        ca_file=pki.path("ca.crt"),
        cert_file=pki.path("gateway.crt"),
        key_file=pki.path("gateway.key"),
        server_name="tak.example",
    )
    with pytest.raises(LinkDown, match="not trusted"):
        await opens(section, tmp_path)
    with pytest.raises(TimeoutError):
        await opens(msgspec.structs.replace(section, server_name=LOOPBACK), tmp_path, 0.3)
    await server.shut()


async def test_without_our_certificate_there_is_no_line(tmp_path: Path) -> None:
    """A file that is missing, or none where the server wants one: down, and said why."""
    pki = Pki(tmp_path)
    pki.issue("server")
    server = TakServer(mutual(pki))
    await server.open()
    section = CotSection(name="tak", transport="tls", port=server.port, ca_file=pki.path("ca.crt"))
    with pytest.raises(LinkDown, match="by the server"):
        await opens(section, tmp_path)
    missing = msgspec.structs.replace(section, cert_file="none.crt", key_file="none.key")
    with pytest.raises(LinkDown, match="certificate file cannot be used"):
        await opens(missing, tmp_path)
    await server.shut()


async def test_a_server_that_does_not_shake_hands_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("adapters.relays.cot_transports.HANDSHAKE_WITHIN_S", 0.2)
    pki = Pki(tmp_path)
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()
        port = listening.getsockname()[1]
        section = CotSection(name="tak", transport="tls", port=port, ca_file=pki.path("ca.crt"))
        with pytest.raises(LinkDown, match="no handshake in time"):
            await opens(section, tmp_path)


async def test_one_that_does_not_read_is_given_up_at_the_deadline() -> None:
    """What the kernel does not take in time is lost, counted, and nobody's memory."""
    server = TakServer()
    await server.open()
    section = CotSection(name="tak", port=server.port, min_interval_s=0.0, write_deadline_s=0.3)
    rig = Rig(Tak(), relay=section)
    await rig.opened()
    server.stall()
    await rig.until(lambda: server.clients)

    terminals = [str(5_000_000 + n) for n in range(200)]
    rig.present.metas = {
        each: msgspec.structs.replace(rig.present.metas[EAST], terminal=each) for each in terminals
    }

    def flood() -> bool:
        for terminal in terminals:
            rig.fix(place(terminal, 50.0))
        return rig.meter.total("queue_dropped_total", queue="fix", reason="slow") > 0

    await rig.until(flood)
    await rig.close()
    await server.shut()


# --------------------------------------------------------------------------- a group


async def test_datagrams_leave_by_the_interface_and_go_no_further_than_said(
    tmp_path: Path,
) -> None:
    section = CotSection(
        name="tak", transport="multicast", host=GROUP, port=6969, interface=LOOPBACK, ttl=3
    )
    async with opened(
        section,
        config_path=tmp_path / "x",
        lookup=Lookup(),
        pinged=lambda: None,
        heard=lambda _count: None,
    ) as line:
        sock = line._sock  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 3
        interface = sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4)
        assert socket.inet_ntoa(interface) == LOOPBACK
        assert not line.stream


async def test_an_interface_that_is_not_ours_is_link_down(tmp_path: Path) -> None:
    section = CotSection(
        name="tak", transport="multicast", host=GROUP, port=6969, interface="192.0.2.1"
    )
    with pytest.raises(LinkDown, match="no way to the group"):
        await opens(section, tmp_path)
