"""Hundreds of officers at a small cost: one connection each, one clock for all of them.

They ask, repeat until they have a receipt, acknowledge what they read, say where they are, and
keep of what they heard what the join of the ledgers needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import itertools
import json
import random
import socket
import time
from collections.abc import Callable
from typing import Any

from tests.services import plain_mqtt as wire
from tests.system.officers import Heard, Officer, now_text

KEEPALIVE_S = 60
REPEAT_S = 5.0
FIX_S = 30.0
OPEN_MOST = 3
"""Questions that an officer has open at once; the daemon allows 8."""
RECONNECT_S = 1.0
CONNECT_S = 5.0
VEHICLES = ("TE99AAB", "TE99ABC", "TE99STV", "TE99AAA", "TE99KWN", "TE99DDR", "ER99ERR", "ER99SLW")
SAID_ANEW = ("pages", "text", "repeated")
"""Members of a result that a repeat may say otherwise (AS AT)."""


class Terminal(Officer):
    """One JSON terminal. `refs` are the questions without an end: (what is sent, when again)."""

    def __init__(self, issi: str, port: int, chance: random.Random) -> None:
        super().__init__(issi, ack=True)
        self.refs: dict[str, tuple[bytes, float]] = {}
        self.asked = 0
        self.outcomes: dict[str, int] = {}
        self._port = port
        self._chance = chance
        self._numbers = itertools.count(1)
        self._mids = itertools.cycle(range(1, 65536))
        self._writer: asyncio.StreamWriter | None = None

    @property
    def up(self) -> bool:
        return self._writer is not None

    async def run(self) -> None:
        """Connected until cancelled; whatever ends a connection, another is tried."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._connection()
            await asyncio.sleep(RECONNECT_S * self._chance.uniform(0.5, 1.5))

    async def _connection(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            name = f"terminal-{self.issi}"
            writer.write(wire.connect(name, keepalive_s=KEEPALIVE_S, clean=False))
            writer.write(wire.subscribe(next(self._mids), [f"radio/{self.issi}/down/#"], 1))
            parser = wire.Parser()
            # Nothing for longer than that: the broker is stopped, not gone.
            while data := await asyncio.wait_for(reader.read(65536), 1.5 * KEEPALIVE_S):
                for packet in parser.feed(data):
                    if packet.kind == wire.SUBACK:
                        self._writer = writer
                    elif packet.kind == wire.PUBLISH:
                        writer.write(wire.puback(packet.mid))
                        channel = packet.topic.decode().rsplit("/", 1)[1]
                        self._heard(channel, json.loads(packet.payload))
        finally:
            self._writer = None
            writer.transport.abort()

    def drop(self) -> None:
        """The bearer is gone, without a word."""
        if self._writer is not None:
            self._writer.transport.abort()

    def ping(self) -> None:
        if self._writer is not None:
            self._writer.write(wire.PINGREQ)

    def say(self, channel: str, body: bytes, *, qos: int = 1) -> None:
        """On the air if there is one; nothing waits."""
        if self._writer is not None and not self._writer.is_closing():
            mid = next(self._mids) if qos else 0
            topic = f"radio/{self.issi}/up/{channel}".encode()
            self._writer.write(wire.publish(topic, body, qos=qos, mid=mid))

    def ask(self) -> None:
        """A question, unless enough are open."""
        if len(self.refs) >= OPEN_MOST:
            return
        ref = str(next(self._numbers))
        body: dict[str, Any] = {
            "ref": ref,
            "t": now_text(),
            "reason": str(self._chance.randint(1, 6)),
        }
        if self._chance.random() < 0.8:
            body |= {"kind": "vehicle", "vrm": self._chance.choice(VEHICLES)}
        else:
            body |= {
                "kind": "person",
                "surname": "TESTER",
                "forenames": "NORA",
                "dob": "1970-01-01",
            }
        raw = json.dumps(body).encode()
        self.asked += 1
        self.refs[ref] = raw, time.monotonic() + REPEAT_S
        self.say("check", raw)

    def repeat(self) -> None:
        """What has no receipt, again: the same bytes."""
        now_s = time.monotonic()
        for ref, (raw, at_s) in self.refs.items():
            if now_s >= at_s:
                self.refs[ref] = raw, now_s + REPEAT_S
                self.say("check", raw)

    def fix(self) -> None:
        lat = 52.5 + self._chance.random() / 10
        body = {"t": now_text(), "lat": round(lat, 5), "lon": -0.24, "speed_mps": 1.2}
        self.say("fix", json.dumps(body).encode(), qos=0)

    def emergency(self) -> None:
        self.say("status", b'{"code": 0}')

    def _heard(self, channel: str, body: dict[str, Any]) -> None:
        ref = str(body.get("ref", ""))
        if channel == "receipt":
            self.heard.append(Heard(channel, b"", _kept(body, ("short", "accepted"))))
            if ref in self.refs:
                if body["accepted"]:
                    self.refs[ref] = self.refs[ref][0], float("inf")
                elif not body.get("check"):
                    self._end(ref, "refused")
        elif channel == "result":
            rest = {name: value for name, value in body.items() if name not in SAID_ANEW}
            digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
            kept = _kept(body, ("short", "outcome")) | {"digest": digest}
            kept["pages"] = [body["pages"][0].splitlines()[0]] if body.get("pages") else [""]
            self.heard.append(Heard(channel, b"", kept))
            self._end(ref, str(body["outcome"]))
            for state in ("delivered", "read"):
                told = {"check": body["check"], "part": 1, "state": state}
                self.say("ack", json.dumps(told).encode())

    def _end(self, ref: str, outcome: str) -> None:
        if self.refs.pop(ref, None) is not None:
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def _kept(body: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: body[name] for name in names if name in body}


class Fleet:
    """Terminals and the one clock that moves them. `asking` may be turned off, to come to rest."""

    def __init__(
        self, issis: list[str], port: int, per_minute: float, chance: random.Random
    ) -> None:
        self.terminals = [Terminal(issi, port, chance) for issi in issis]
        self.asking = True
        self._every_s = 60.0 / per_minute
        self._chance = chance

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for terminal in self.terminals:
                group.create_task(terminal.run(), name="terminal")
            group.create_task(self._clock(), name="fleet clock")

    async def _clock(self) -> None:
        due: list[tuple[float, int, Terminal, Callable[[Terminal], None], float]] = []
        numbers, now_s = itertools.count(), time.monotonic()
        for terminal in self.terminals:
            for act, every_s in (
                (self._ask, self._every_s),
                (Terminal.repeat, REPEAT_S / 2),
                (Terminal.fix, FIX_S),
                (Terminal.ping, KEEPALIVE_S / 2),
            ):
                at_s = now_s + every_s * self._chance.random()
                due.append((at_s, next(numbers), terminal, act, every_s))
        heapq.heapify(due)
        while True:
            at_s, _, terminal, act, every_s = due[0]
            if (wait_s := at_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            act(terminal)
            # Officers keep no beat: anywhere between half the time and half as long again.
            next_s = time.monotonic() + every_s * self._chance.uniform(0.5, 1.5)
            heapq.heapreplace(due, (next_s, next(numbers), terminal, act, every_s))

    def _ask(self, terminal: Terminal) -> None:
        if self.asking:
            terminal.ask()

    @property
    def up(self) -> int:
        return sum(terminal.up for terminal in self.terminals)

    @property
    def waiting(self) -> int:
        """Questions without an end."""
        return sum(len(terminal.refs) for terminal in self.terminals)
