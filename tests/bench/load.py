"""One process of load: `python -m tests.bench.load SPEC`, in JSON; what it saw goes to stdout.

Open loop: message n is due at `start_s + n / rate`, whatever became of those before it, and every
latency counts from that moment, not from when the process came to send it. The clock is the
kernel's monotonic one, the same in all processes. A raw asyncio Protocol and `plain_mqtt`: its own
ceiling, against the broker alone, is a figure of the same run.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import selectors
import socket
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import msgspec

from tests.services import plain_mqtt as wire

MARKS = (b"TE99AAA", b"TE99ABC", b"TE99STV", b"TE99AAB")
"""No trace, and three that the mock knows (config/pnc/vehicles.toml)."""
FILTERS_AT_ONCE = 200
SETTLE_S = 0.3
HEAD = b'{"ref":"'


class Spec(msgspec.Struct, forbid_unknown_fields=True):
    """check: asks, and takes receipt and result. echo: asks, and takes what comes back on `back`.
    fix: positions, QoS 0, nobody answers. listen: takes positions on `back`. stream: is so many
    consoles.

    terminals: first ISSI and how many. acks: reads each result, and says so. connections: so many
    clients share the terminals. drain_s: how long after the last message replies are waited for.
    """

    role: str
    port: int
    name: str
    start_s: float
    seconds: float
    rate: float = 0.0
    phase: float = 0.0
    terminals: tuple[int, int] = (0, 0)
    back: str = "down/result"
    acks: bool = False
    connections: int = 1
    drain_s: float = 5.0
    cookie: str = ""
    """stream: of an open session."""


class Line(asyncio.Protocol):
    """One client of the broker."""

    def __init__(self, take: Callable[[Line, wire.Packet], None]) -> None:
        self._take = take
        self._parser = wire.Parser()
        self._mids = itertools.cycle(range(1, 65536))
        self.transport: asyncio.WriteTransport | None = None
        self.agreed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._acks: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.agreed.done():
            self.agreed.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        acks = self._acks
        for packet in self._parser.feed(data):
            if packet.kind == wire.PUBLISH:
                if packet.qos:
                    acks.append(wire.puback(packet.mid))
                self._take(self, packet)
            elif packet.kind in (wire.CONNACK, wire.SUBACK) and not self.agreed.done():
                self.agreed.set_result(packet.payload)
        if acks:
            self.write(b"".join(acks))
            acks.clear()

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def say(self, topic: bytes, payload: bytes, qos: int) -> None:
        self.write(wire.publish(topic, payload, qos=qos, mid=next(self._mids) if qos else 0))

    async def agree(self, packet: bytes) -> bytes:
        """Say what is answered: CONNECT, SUBSCRIBE."""
        self.agreed = asyncio.get_running_loop().create_future()
        self.write(packet)
        async with asyncio.timeout(10):
            return await self.agreed


class Console(asyncio.Protocol):
    """One client of the event stream; it counts what comes and keeps nothing."""

    BATCH = b'"type":"unit.batch","t":'

    def __init__(self, load: Load) -> None:
        self._load = load
        self._rest = b""
        self.rows = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        host = f"127.0.0.1:{self._load.spec.port}"
        head = f"GET /api/v1/stream HTTP/1.1\r\nHost: {host}\r\n"
        transport.write(f"{head}Cookie: {self._load.spec.cookie}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\n\n")) >= 0:
            message, self._rest = self._rest[:end], self._rest[end + 2 :]
            at = message.find(self.BATCH)
            if at >= 0:
                self.rows += message.count(b"[") - 1
                made_s = float(message[at + len(self.BATCH) :].split(b",", 1)[0])
                self._load.ages.append(time.time() - made_s)


class Load:
    """The life of one process."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.lines: list[Line] = []
        self.consoles: list[Console] = []
        self.sent = self.refused = self.odd = self.behind = 0
        self.late_s = 0.0
        self.due: dict[bytes, float] = {}
        """ref -> when it was due to be sent."""
        self.receipts: dict[bytes, float] = {}
        self.results: dict[bytes, float] = {}
        self.ages = array("d")
        self._names = [str(spec.terminals[0] + n).encode() for n in range(spec.terminals[1])]
        self._wall_s = time.time() - time.monotonic()

    async def run(self) -> dict[str, Any]:
        spec = self.spec
        for n in range(spec.connections):
            if spec.role == "stream":
                loop = asyncio.get_running_loop()
                _, console = await loop.create_connection(
                    lambda: Console(self), "127.0.0.1", spec.port
                )
                self.consoles.append(console)
            else:
                self.lines.append(await self._connect(n))
        await self._pace()
        until_s = spec.start_s + spec.seconds + spec.drain_s
        while not self._complete() and time.monotonic() < until_s:  # noqa: ASYNC110 - no event: it counts
            await asyncio.sleep(0.01)
        if spec.role in ("check", "echo"):
            await asyncio.sleep(SETTLE_S)  # so that a second answer is seen
        for line in self.lines:
            line.write(wire.DISCONNECT)
            assert line.transport is not None
            line.transport.close()
        return self._report()

    async def _connect(self, n: int) -> Line:
        spec, loop = self.spec, asyncio.get_running_loop()
        take = self._heard if spec.role == "listen" else self._answered
        _, line = await loop.create_connection(lambda: Line(take), "127.0.0.1", spec.port)
        if (await line.agree(wire.connect(f"{spec.name}-{n}")))[1]:
            raise ConnectionRefusedError
        filters: list[str] = []
        mine = [name.decode() for name in self._names[n :: spec.connections]]
        if spec.role == "check":
            filters = [
                f"radio/{each}/down/{what}" for each in mine for what in ("receipt", "result")
            ]
        elif spec.role == "echo":
            filters = [f"radio/{each}/{spec.back}" for each in mine]
        elif spec.role == "listen":
            filters = [spec.back]
        qos = 0 if spec.role == "listen" else 1
        for at in range(0, len(filters), FILTERS_AT_ONCE):
            await line.agree(wire.subscribe(at + 1, filters[at : at + FILTERS_AT_ONCE], qos))
        return line

    # ----------------------------------------------------------------- out

    async def _pace(self) -> None:
        """Each message when it is due; whatever fell behind goes at once."""
        spec = self.spec
        total = round(spec.rate * spec.seconds)
        say = {"check": self._ask, "echo": self._ask, "fix": self._move}.get(spec.role)
        if say is None:
            await asyncio.sleep(spec.start_s + spec.seconds - time.monotonic())
            return
        first_s = spec.start_s + spec.phase / spec.rate
        while self.sent < total:
            now_s = time.monotonic()
            while self.sent < total and (due_s := first_s + self.sent / spec.rate) <= now_s:
                say(self.sent, due_s)
                self.sent += 1
                self.late_s = max(self.late_s, now_s - due_s)
            due_s = first_s + self.sent / spec.rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def _stamp(self, due_s: float) -> bytes:
        ms = round((due_s + self._wall_s) * 1000)
        at = time.gmtime(ms // 1000)
        return b"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (*at[:6], ms % 1000)

    def _ask(self, n: int, due_s: float) -> None:
        spec = self.spec
        issi = self._names[n % len(self._names)]
        ref = b"%b%d" % (spec.name.encode(), n)
        self.due[ref] = due_s
        body = b'{"ref":"%b","t":"%b","kind":"vehicle","vrm":"%b","reason":"1"}' % (
            ref,
            self._stamp(due_s),
            MARKS[n % len(MARKS)],
        )
        line = self.lines[n % len(self._names) % spec.connections]
        line.say(b"radio/%b/up/check" % issi, body, 1)

    def _move(self, n: int, due_s: float) -> None:
        issi = self._names[n % len(self._names)]
        wander = (n * 7919) % 997 * 1e-6
        body = b'{"t":"%b","lat":%.6f,"lon":%.6f,"speed_mps":1.2,"course_deg":90}' % (
            self._stamp(due_s),
            52.57 + wander,
            -0.24 - wander,
        )
        line = self.lines[n % len(self._names) % self.spec.connections]
        line.say(b"radio/%b/up/fix" % issi, body, 0)

    # ----------------------------------------------------------------- in

    def _answered(self, line: Line, packet: wire.Packet) -> None:
        now_s = time.monotonic()
        payload = packet.payload
        if not payload.startswith(HEAD):
            self.odd += 1
            return
        ref = payload[len(HEAD) : payload.index(b'"', len(HEAD))]
        due_s = self.due.get(ref)
        kind = self.receipts if packet.topic.endswith(b"receipt") else self.results
        if due_s is None or ref in kind:
            self.odd += 1
            return
        kind[ref] = now_s - due_s
        if kind is self.receipts:
            self.refused += b'"accepted":true' not in payload
        elif self.spec.role == "check":
            self.refused += b'"outcome":"answered"' not in payload
            if self.spec.acks:
                issi = packet.topic.split(b"/", 2)[1]
                check = json.loads(payload)["check"].encode()
                body = b'{"check":"%b","part":1,"state":"read"}' % check
                line.say(b"radio/%b/up/ack" % issi, body, 1)

    def _heard(self, _line: Line, packet: wire.Packet) -> None:
        """A position: how old it is, from the time that it bears itself."""
        body = packet.payload
        at = body.index(b'"t":"') + 16
        of_day_s = (int(body[at : at + 2]) * 3600 + int(body[at + 3 : at + 5]) * 60) + float(
            body[at + 6 : at + 12]
        )
        self.ages.append((time.time() - of_day_s) % 86400)

    # ----------------------------------------------------------------- the end

    def _complete(self) -> bool:
        match self.spec.role:
            case "check":
                return len(self.results) == len(self.receipts) == self.sent
            case "echo":
                return len(self.results) == self.sent
            case "fix":
                return True
            case _:
                return False

    def _report(self) -> dict[str, Any]:
        last = max((self.due[ref] + s for ref, s in self.results.items()), default=0.0)
        return {
            "sent": self.sent,
            "late_s": self.late_s,
            "receipts": list(self.receipts.values()),
            "results": list(self.results.values()),
            "ages": list(self.ages),
            "rows": [each.rows for each in self.consoles],
            "refused": self.refused,
            "odd": self.odd,
            "overrun_s": max(0.0, last - self.spec.start_s - self.spec.seconds),
        }


def main() -> None:
    # select() waits to the microsecond, epoll as asyncio uses it to the millisecond.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    asyncio.set_event_loop(loop)
    spec = msgspec.json.decode(sys.argv[1], type=Spec)
    print(json.dumps(loop.run_until_complete(Load(spec).run())))


if __name__ == "__main__":
    main()
