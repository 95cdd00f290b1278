"""The link to one gpsd over TCP: the receiver of a vehicle, whose positions are one terminal's.

The problem: gpsd says nothing while it has no receiver, so a connection that lost its far side
looks like a car in a tunnel. The answer: a quiet gpsd is asked for its policy (`?WATCH;`), which it
always tells; what does not answer is down. What was connected to counts as gpsd, and as up, when it
has said that it is watched. Nothing else is ever sent: no answer, no setting of a receiver.
Source: gpsd_json(5); reference radio-protocols, 5.4; reliability-security, M03.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import serial_asyncio_fast

from adapters.dialling import Lookup
from adapters.links.device_server import SCHEME, open_socket
from adapters.links.intake import Intake, nameless, nobody
from adapters.links.line import Line
from gateway.errors import LinkDown, SendFailed
from gateway.messages import (
    FIX_REASONS,
    BadFrame,
    Bearer,
    Decoded,
    Downlink,
    Ignored,
    Issi,
    Suspicion,
)
from gateway.ports import (
    OPENED,
    SEND_S,
    Clock,
    Codec,
    Handle,
    Journal,
    Meter,
    Named,
    Suspect,
    Tap,
    untapped,
)
from gateway.settings import GpsdSection

CODEC = "gpsd_json"
WATCH = b'?WATCH={"enable":true,"json":true};\n'
ASK = b"?WATCH;\n"
ERROR, WATCHED = "ERR", "WCH"
OF_RECEIVER = frozenset({"TPV", "SKY", "ATT", "IMU", "GST"})
"""Names by which the codec ignores what gpsd says of itself, and because a receiver spoke."""
TOLD = frozenset(FIX_REASONS)
"""Likewise: why what a receiver said is no position."""
WRITE_BUFFER = 2048
CLOSE_WITHIN_S = 0.5
REFUSES = "refuses to be watched"
SILENT = "does not answer"
STRANGER = "is no gpsd"


class GpsdLink:
    """gateway.ports.Link. What it hears is one terminal's: section.terminal. It reaches nobody."""

    kind = "gpsd"
    bearer = Bearer.GPSD
    send_s = SEND_S

    def __init__(
        self,
        section: GpsdSection,
        *,
        instance: str,
        config_path: Path,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        known: Callable[[Issi], bool],
        codecs: Callable[..., Codec],
        suspect: Suspect = nobody,
        tap: Tap = untapped,
        named: Named = nameless,
    ) -> None:
        del instance, config_path, named
        self.name = section.name
        self._section = section
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._suspect = suspect
        self._tap = tap
        self._lookup = Lookup()
        self._word_at_s = 0.0
        """When the last byte came: whoever speaks is there."""
        self._watched: asyncio.Future[str] | None = None
        """Set when it is known whether we are its watchers: empty, or why not."""
        self.heard_at_s: float | None = None
        """When a receiver said something last that can be read."""

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Connect, be a watcher, serve until the connection is gone or dead. Raises LinkDown."""
        section = self._section
        intake = self._intake(handle)
        host = f"[{section.host}]" if ":" in section.host else section.host
        opened = await open_socket(
            f"{SCHEME}{host}:{section.port}", self._lookup, write_buffer=WRITE_BUFFER
        )
        codec = self._fresh()
        loop = asyncio.get_running_loop()
        watched: asyncio.Future[str] = loop.create_future()
        self._watched = watched
        line = Line(
            opened,
            lambda data: self._take(data, codec, intake),
            self._flooding,
            # gpsd 3.22 drops whatever came with an empty line before it, without a word (measured).
            torn=False,
        )
        line.serve(serial_asyncio_fast.SerialTransport(loop, line, line.port))
        minding: asyncio.Task[None] | None = None
        try:
            self.heard_at_s = None
            self._word_at_s = self._clock.monotonic_s()
            self._tap(OPENED, b"")
            await self._say(line, WATCH)
            minding = asyncio.create_task(self._mind(line), name=f"{self.name}: mind")
            await asyncio.wait({watched, line.lost}, return_when=asyncio.FIRST_COMPLETED)
            if watched.done():
                if watched.result():
                    raise LinkDown(watched.result(), refused=True)
                up()
                await asyncio.wait({line.lost})
            raise LinkDown(line.lost.result())
        finally:
            self._watched = None
            if minding is not None:
                minding.cancel()
                await asyncio.gather(minding, return_exceptions=True)
            await line.close(CLOSE_WITHIN_S)

    def _intake(self, handle: Handle) -> Intake:
        return Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            handle=handle,
        )

    def _fresh(self) -> Codec:
        section = self._section
        return self._codecs(
            CODEC,
            side="gateway",
            accept_estimated=section.accept_estimated,
            device=section.device,
        )

    def played(self, handle: Handle) -> Tap:
        """gateway.ports.Plays."""
        intake, codec = self._intake(handle), self._fresh()

        def hear(channel: str, data: bytes) -> None:
            nonlocal codec
            if channel == OPENED:
                codec = self._fresh()
            else:
                self._take(data, codec, intake)

        return hear

    async def _mind(self, line: Line) -> None:
        """Ask whenever nothing came for ask_after_s; as long again without a word is the end."""
        ask_after_s = self._section.ask_after_s
        asked_at_s: float | None = None
        while not line.lost.done():
            quiet_s = self._clock.monotonic_s() - self._word_at_s
            if asked_at_s is not None and self._word_at_s >= asked_at_s:
                asked_at_s = None
            if asked_at_s is not None and quiet_s >= 2 * ask_after_s:
                line.gone(SILENT)
                return
            if asked_at_s is None and quiet_s >= ask_after_s:
                asked_at_s = self._clock.monotonic_s()
                await self._say(line, ASK)
                continue
            due_s = (2 if asked_at_s is not None else 1) * ask_after_s
            await self._clock.sleep(max(0.01, due_s - quiet_s))

    async def _say(self, line: Line, words: bytes) -> None:
        """The one thing that is sent. What cannot be written is told by the line itself."""
        try:
            async with asyncio.timeout(self._section.ask_after_s):
                await line.write(words)
        except TimeoutError:
            line.gone("does not take what is sent")
        except SendFailed:
            return
        self._meter.count("link_send_bytes_total", len(words), link=self.name)

    # ----------------------------------------------------------------- in

    def _take(self, data: bytes, codec: Codec, intake: Intake) -> int:
        """Judge one slice, in one turn of the loop; returns how many reports were complete."""
        received_at_ms = self._clock.wall_ms()
        self._word_at_s = self._clock.monotonic_s()
        self._tap("", data)
        intake.heard(len(data))
        try:
            decoded = codec.feed(data, received_at_ms=received_at_ms)
            self._mind_answers(decoded)
            if not self._are_watchers():
                # Whoever has not said that it is one is no gpsd: what it says is of nobody.
                decoded = [each for each in decoded if isinstance(each, BadFrame)]
            if any(_of_receiver(each) for each in decoded):
                self.heard_at_s = self._word_at_s
            if decoded and not self._known(self._section.terminal):
                intake.reject("unknown_terminal")
            else:
                intake.take(decoded, self._section.terminal, received_at_ms, _nothing)
        # Neither a codec nor a desk may raise; should one, this slice is given up, and the line
        # goes on.
        except Exception as error:  # noqa: BLE001
            self._journal.warn("frame.rejected", link=self.name, error=type(error).__name__)
            intake.reject("decode")
            return 1
        return len(decoded)

    def _mind_answers(self, decoded: Sequence[Decoded]) -> None:
        """What gpsd says of itself decides whether we are its watchers."""
        watched = self._watched
        for each in decoded:
            if watched is None or watched.done():
                if isinstance(each, Ignored) and each.type == ERROR:
                    self._journal.warn("link.state", link=self.name, kind=self.kind, state="error")
                continue
            if isinstance(each, BadFrame) and each.reason not in TOLD:
                watched.set_result(STRANGER)
            elif isinstance(each, Ignored) and each.type in (ERROR, WATCHED):
                watched.set_result(REFUSES if each.type == ERROR else "")

    def _are_watchers(self) -> bool:
        watched = self._watched
        return watched is not None and watched.done() and not watched.result()

    def _flooding(self, more: bool) -> None:
        say = self._journal.warn if more else self._journal.note
        state = "flooding" if more else "calm"
        say("link.state", link=self.name, kind=self.kind, state=state)
        if more:
            self._suspect(Suspicion.FLOOD, self.name, self._section.terminal)

    # ----------------------------------------------------------------- out

    def reaches(self, terminal: Issi) -> bool:
        """Never: a receiver has no screen."""
        del terminal
        return False

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        del terminal, message, expires_in_s, deadline_s
        raise SendFailed("a receiver hears nothing")


def _of_receiver(each: Decoded) -> bool:
    """Whether a receiver is alive behind it; that gpsd is says nothing of that."""
    match each:
        case Ignored(type=what):
            return what in OF_RECEIVER
        case BadFrame(reason=reason):
            return reason in TOLD
        case _:
            return True


def _nothing() -> None:
    """A line waits for no acknowledgement."""
