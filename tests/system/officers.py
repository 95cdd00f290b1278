"""Officers' terminals for the proofs: they keep every byte said and heard, on their own clock.

Written from docs/interfaces.md by hand; nothing of the product's codecs is used, so a misreading
on both sides of the product cannot hide here. A terminal repeats a question until its receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import ssl
import time
import tty
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiomqtt

RESEND_S = 1.0
BACKOFF_S = 0.2


class Heard:
    """One thing that reached a terminal. channel: `receipt`, `result`, `notice`, or `line`."""

    __slots__ = ("at_ms", "at_s", "body", "channel", "raw")

    def __init__(self, channel: str, raw: bytes, body: dict[str, Any]) -> None:
        self.at_s = time.monotonic()
        self.at_ms = time.time_ns() // 1_000_000
        self.channel = channel
        self.raw = raw
        self.body = body


class Officer:
    """What both bearers share: the record, and waiting for something to be heard.

    acknowledges: whether it says what it was shown. resend_s: how long it waits for a receipt.
    answered: references whose answer came, or began to. fixes: positions that must come to the
    page: when said, and where in millionths of a degree. emergencies: when help was called for,
    where that cannot be lost on the way. revoked_at_s: when it lost its right to answers.
    """

    def __init__(self, issi: str, *, ack: bool) -> None:
        self.issi = issi
        self.sent: list[tuple[float, str, bytes]] = []
        self.heard: list[Heard] = []
        self.fixes: list[tuple[float, int, int]] = []
        self.answered: set[str] = set()
        self.emergencies: list[float] = []
        self.acknowledges = ack
        self.resend_s = RESEND_S
        self.revoked_at_s: float | None = None
        self._news = asyncio.Event()

    def questions(self) -> dict[str, list[bytes]]:
        """Reference -> what was said under it, each time."""
        found: dict[str, list[bytes]] = {}
        for _, channel, raw in self.sent:
            if ref := self._ref_of(channel, raw):
                found.setdefault(ref, []).append(raw)
        return found

    def asked_at_s(self) -> dict[str, float]:
        """Reference -> when its question was said for the first time."""
        found: dict[str, float] = {}
        for at_s, channel, raw in self.sent:
            if ref := self._ref_of(channel, raw):
                found.setdefault(ref, at_s)
        return found

    def _ref_of(self, channel: str, raw: bytes) -> str:
        """The reference of a question; empty for what is none."""
        raise NotImplementedError

    def _hear(self, heard: Heard) -> None:
        self.heard.append(heard)
        if heard.channel == "result":
            self.answered.add(heard.body.get("ref", ""))
        self._news.set()

    async def until(self, ready: Any, within_s: float) -> Any:
        """The first true value of `ready()`; AssertionError when there is none in time."""
        try:
            async with asyncio.timeout(within_s):
                while not (value := ready()):
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), 0.05)
                return value
        except TimeoutError:
            said = [(h.channel, h.body or h.raw) for h in self.heard[-8:]]
            raise AssertionError(f"not heard within {within_s:g} s; last heard: {said}") from None


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Client(aiomqtt.Client):
    """Its waits are `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes
    with the result: an officer who publishes at that moment would never end, nor the test."""

    async def _wait_for(self, fut: Awaitable[Any], timeout: float | None) -> Any:
        try:
            async with asyncio.timeout(self.timeout if timeout is None else timeout):
                return await fut
        except TimeoutError:
            raise aiomqtt.MqttError("timed out") from None


class MqttOfficer(Officer):
    """A JSON terminal. `run` stays connected until cancelled; `ask` repeats until the receipt."""

    def __init__(
        self,
        issi: str,
        port: int,
        *,
        ack: bool = True,
        version: str = "5",
        client: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(issi, ack=ack)
        self._tls = tls
        self._port = port
        self._version = version
        self._id = client or f"officer-{issi}"
        self._client: aiomqtt.Client | None = None
        self.connected = asyncio.Event()
        self._numbers = itertools.count(1)
        self._open: dict[str, tuple[float, bytes]] = {}

    async def run(self) -> None:
        while True:
            try:
                async with self._connect() as client:
                    await client.subscribe(f"radio/{self.issi}/down/#", qos=1)
                    self._client = client
                    self.connected.set()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._repeat(client))
                        group.create_task(self._listen(client))
            except* (aiomqtt.MqttError, OSError):
                await asyncio.sleep(BACKOFF_S)
            finally:
                self._client = None
                self.connected.clear()

    def _connect(self) -> aiomqtt.Client:
        five = self._version == "5"
        return _Client(
            "127.0.0.1",
            self._port,
            identifier=self._id,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            tls_context=self._tls,
            keepalive=5,
            timeout=5,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            raw = bytes(message.payload) if isinstance(message.payload, bytes) else b""
            channel = str(message.topic).rsplit("/", 1)[1]
            body = json.loads(raw)
            self._hear(Heard(channel, raw, body))
            if channel in {"receipt", "result"}:
                self._open.pop(body.get("ref", ""), None)
            if channel == "result" and self.acknowledges:
                await self.say("ack", {"check": body["check"], "part": 1, "state": "delivered"})
            if body.get("kind") == "message" and self.acknowledges:
                await self.say("ack", {"check": body["id"], "part": 1, "state": "delivered"})

    async def _repeat(self, client: aiomqtt.Client) -> None:
        while True:
            await asyncio.sleep(0.1)
            for ref, (at_s, raw) in list(self._open.items()):
                if time.monotonic() - at_s >= self.resend_s:
                    self._open[ref] = (time.monotonic(), raw)
                    await self._publish(client, "check", raw)

    async def _publish(
        self, client: aiomqtt.Client, channel: str, raw: bytes, qos: int = 1
    ) -> None:
        self.sent.append((time.monotonic(), channel, raw))
        await client.publish(f"radio/{self.issi}/up/{channel}", raw, qos=qos, timeout=5)

    async def say(self, channel: str, body: dict[str, Any] | bytes, qos: int = 1) -> None:
        """Publish one payload; quietly nothing while the broker is gone."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        if self._client is not None:
            await self._publish(self._client, channel, raw, qos)

    async def ask(self, **body: Any) -> str:
        """Send a check and keep it until its receipt; returns its reference."""
        ref = body.setdefault("ref", f"{self.issi}-{next(self._numbers)}")
        body.setdefault("t", now_text())
        raw = json.dumps(body).encode()
        self._open[ref] = (time.monotonic(), raw)
        with contextlib.suppress(aiomqtt.MqttError):
            await self.say("check", raw)
        return str(ref)

    async def fix(self, lat6: int, lon6: int) -> None:
        """Where it is, in millionths of a degree."""
        body = {"t": now_text(), "lat": lat6 / 1e6, "lon": lon6 / 1e6, "accuracy_m": 8}
        if self._client is not None:
            self.fixes.append((time.monotonic(), lat6, lon6))
            await self.say("fix", body)

    async def emergency(self) -> None:
        """Call for help; the broker keeps it until the gateway has it."""
        if self._client is not None:
            await self.say("status", {"code": 0})
            self.emergencies.append(time.monotonic())

    def _ref_of(self, channel: str, raw: bytes) -> str:
        if channel != "check":
            return ""
        with contextlib.suppress(ValueError):
            body = json.loads(raw)
            return str(body.get("ref", "")) if isinstance(body, dict) else ""
        return ""

    def receipt(self, ref: str) -> dict[str, Any] | None:
        return next((h.body for h in self.heard if _is(h, "receipt", ref)), None)

    def result(self, ref: str) -> dict[str, Any] | None:
        return next((h.body for h in self.heard if _is(h, "result", ref)), None)


def _is(heard: Heard, channel: str, ref: str) -> bool:
    return heard.channel == channel and heard.body.get("ref") == ref


_SENT = re.compile(r"(?:Q(\d{1,3}) )?SENT ([0-9A-Z]{4})")
_ASKED = re.compile(rb"[A-Z].* Q(\d{1,3})\r\n")
_PART = re.compile(r"(?:Q(\d{1,3}) )?([0-9A-Z]{4}) (\d)/(\d) (.*)")


class TextOfficer(Officer):
    """Whoever reads texts and types them: each part by itself, with a `Q` of one's own."""

    def __init__(self, issi: str, *, ack: bool = True) -> None:
        super().__init__(issi, ack=ack)
        self._written: set[str] = set()
        self._numbers = itertools.count(1)
        self._open: dict[str, tuple[float, str]] = {}

    def say(self, text: str) -> None:
        """Put one text on the bearer; it may be lost there."""
        raise NotImplementedError

    def _acknowledge(self, short: str, part: int) -> None:
        """Say that a part came, where that is not the bearer's own."""

    def ask(self, text: str) -> str:
        """Type an enquiry with a client reference of its own; repeated until SENT."""
        number = str(next(self._numbers) % 1000)
        line = f"{text} Q{number}"
        self._open[number] = (time.monotonic(), line)
        self.say(line)
        return number

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            for number, (at_s, line) in list(self._open.items()):
                if time.monotonic() - at_s >= self.resend_s:
                    self._open[number] = (time.monotonic(), line)
                    self.say(line)

    def _read(self, raw: bytes) -> None:
        """One text as it stands on the screen."""
        text = raw.decode("ascii")
        if found := _SENT.fullmatch(text):
            body: dict[str, Any] = {"ref": found[1] or "", "short": found[2]}
            self._open.pop(found[1] or "", None)
            self._hear(Heard("receipt", raw, body))
        elif found := _PART.fullmatch(text):
            body = {
                "ref": found[1] or "",
                "short": found[2],
                "part": int(found[3]),
                "parts": int(found[4]),
                "text": found[5],
            }
            self._open.pop(found[1] or "", None)
            # What the control room writes answers no question.
            written = body["text"].startswith("MSG: ") or body["short"] in self._written
            if written:
                self._written.add(body["short"])
            self._hear(Heard("message" if written else "result", raw, body))
            if self.acknowledges:
                self._acknowledge(found[2], body["part"])
        else:
            self._hear(Heard("notice", raw, {"text": text}))

    def receipt(self, number: str) -> dict[str, Any] | None:
        return next((h.body for h in self.heard if _is(h, "receipt", number)), None)

    def parts(self, number: str) -> list[dict[str, Any]]:
        """The parts of an answer, once all of them have come; else []."""
        found = {h.body["part"]: h.body for h in self.heard if _is(h, "result", number)}
        complete = bool(found) and len(found) == next(iter(found.values()))["parts"]
        return [found[n] for n in sorted(found)] if complete else []


class LineOfficer(TextOfficer):
    """A terminal on a PTY whose far end the daemon opens by `link`. Typed text, lines back."""

    def __init__(self, issi: str, link: Path, *, ack: bool = True) -> None:
        super().__init__(issi, ack=ack)
        self.link = link
        self._master = self._slave = -1
        self._rest = b""
        self._timer: asyncio.Task[None] | None = None

    def plug(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        new = self.link.with_name(f".{self.link.name}.new")
        new.symlink_to(os.ttyname(self._slave))
        new.replace(self.link)
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        self._timer = asyncio.create_task(self._repeat())

    def unplug(self) -> None:
        if self._master < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._master)
        self.link.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        self._rest = b""

    def say(self, line: str) -> None:
        """Put one line on the wire; a full line loses it, as on the air."""
        raw = line.encode() + b"\r\n"
        self.sent.append((time.monotonic(), "line", raw))
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._master, raw)

    def _acknowledge(self, short: str, part: int) -> None:
        self.say(f"#A {short} {part} D")

    def _ref_of(self, channel: str, raw: bytes) -> str:
        found = _ASKED.fullmatch(raw)
        return found[1].decode() if found else ""

    def fix(self, lat6: int, lon6: int, *, sure: bool = False) -> None:
        """Where it is, as a receiver's RMC sentence. sure: nothing can lose it on the way."""
        lat, lon = rmc_degrees(lat6, "NS", 2), rmc_degrees(lon6, "EW", 3)
        at = datetime.now(UTC)
        body = f"GPRMC,{at:%H%M%S}.{at.microsecond // 1000:03d},A,{lat},{lon},0.0,0.0,{at:%d%m%y},,"
        check = 0
        for byte in body.encode():
            check ^= byte
        self.say(f"${body}*{check:02X}")
        if sure:
            self.fixes.append((time.monotonic(), lat6, lon6))

    def _readable(self) -> None:
        try:
            self._rest += os.read(self._master, 65536)
        except (BlockingIOError, OSError):
            return
        *lines, self._rest = self._rest.split(b"\n")
        for raw in lines:
            if raw.rstrip(b"\r"):  # an empty line says nothing
                self._read(raw.rstrip(b"\r"))


def rmc_degrees(millionths: int, signs: str, digits: int) -> str:
    """As NMEA 0183 writes an angle: degrees and minutes in one figure, then the hemisphere."""
    degrees, rest = divmod(abs(millionths), 1_000_000)
    return f"{degrees:0{digits}d}{rest * 60 / 1e6:08.5f},{signs[millionths < 0]}"
