"""The link to a TETRA radio on its PEI: one port, and every handset that reaches it over the air.

The problem: whoever calls is known only from what the radio says of the calling party, many call
at once, and the air takes seconds for each message. The answer: identity is the calling party that
the network gave, never the payload's; each has a codec of its own, kept in a bounded number; what
is sent waits in one queue, danger words first, and is sent when the radio says so.
Source: reference radio-protocols, 1; the dialogue itself is adapters.links.pei_session.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

from adapters.links import tsi
from adapters.links.intake import Intake, nameless, nobody, word_of
from adapters.links.line import Line
from adapters.links.pei_dialects import DIALECTS
from adapters.links.pei_session import Part, PeiSession
from adapters.links.port_opening import Door, PortSettings, serve
from adapters.links.tetra_pei import Sds
from gateway.errors import LinkDown, SendFailed
from gateway.messages import (
    Bearer,
    Decoded,
    Downlink,
    Frame,
    Issi,
    Locate,
    Message,
    Notice,
    Receipt,
    Result,
    Suspicion,
)
from gateway.ports import (
    OPENED,
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
from gateway.settings import TetraSection

PEERS_MOST = 2_000
"""Calling parties whose message references are remembered; the one unheard for longest goes."""
CLOSE_WITHIN_S = 0.5
REFERENCE_MS = 125
"""No handset is sent messages as fast as that."""
REPORT_UNTIL_S = 20.0
"""A delivery report that could not be sent by then is of no use."""
DANGER, REPORT, ANSWER, NOTICE = range(4)
"""Urgency on the one line that all share."""

CHANNELS = {9: "sds1", 10: "sds2", 11: "sds3", 12: "sds4", 13: "status"}
"""AI service -> the codec's channel."""
SERVICES = {channel: service for service, channel in CHANNELS.items()}
_OURS = {Suspicion.IDENTITY, Suspicion.UNKNOWN_TERMINAL}
"""What over the air is somebody's doing; the rest may be a worn plug."""


class Peer(Protocol):
    """The codec of one calling party (`sds`): a gateway.ports.Codec that also owes reports, and
    knows when a message whose parts do not come is lost."""

    def feed(self, data: bytes, *, received_at_ms: int, channel: str = "") -> Sequence[Decoded]: ...

    def encode(self, message: Message) -> Sequence[Frame]: ...

    def replies(self) -> Sequence[Frame]: ...

    @property
    def lapses_at_ms(self) -> int | None: ...

    def lapse(self, now_ms: int) -> Sequence[Decoded]: ...


class TetraLink:
    """gateway.ports.Link. Behind it is whoever the fleet knows and the network lets call."""

    kind = "tetra"
    bearer = Bearer.TETRA

    def __init__(
        self,
        section: TetraSection,
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
        self.send_s = section.send_s
        self.heard_at_s: float | None = None
        self._section = section
        self._network = _figure(section.mcc), _figure(section.mnc)
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._suspect = suspect
        self._tap = tap
        self._door = Door(
            PortSettings(port=section.port, baud=section.baud, rtscts=section.rtscts),
            write_buffer=section.write_buffer,
        )
        self._session: PeiSession | None = None
        self._line: Line | None = None
        self._wake = asyncio.Event()
        self._peers: OrderedDict[Issi, Peer] = OrderedDict()
        self._bits = section.max_pdu_bits
        self._gathering: dict[Issi, Peer] = {}
        """Those of whom a message in parts is not whole."""
        self._tokens = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str]] = {}

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Open, set the radio up, then serve until either is gone. Raises LinkDown."""
        intake = self._intake(handle)
        opened = await self._door.open()
        session = self._fresh()
        line = Line(opened, lambda data: self._take(data, session, intake), self._flooding)
        line.lost.add_done_callback(lambda _lost: self._wake.set())
        serve(line)
        try:
            self.heard_at_s = None
            self._tap(OPENED, b"")
            self._session, self._line = session, line
            session.start(self._clock.monotonic_s())
            await self._talk(session, line, intake, up)
        finally:
            self._session = self._line = None
            session.close("link down")
            self._settle(session)
            await line.close(CLOSE_WITHIN_S)

    def _intake(self, handle: Handle) -> Intake:
        return Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            handle=handle,
            suspect=self._suspects,
        )

    def _fresh(self) -> PeiSession:
        section = self._section
        return PeiSession(
            DIALECTS[section.dialect],
            services=section.services,
            max_bits=section.max_pdu_bits,
            keep_alive_s=section.keep_alive_s,
            renew_s=section.renew_s,
            air_s=section.air_s,
            most=section.queue,
        )

    def played(self, handle: Handle) -> Tap:
        """gateway.ports.Plays. What the session would say to the radio goes nowhere, and it is not
        woken: what the radio answered, it answered to another."""
        intake, session = self._intake(handle), self._fresh()
        session.start(self._clock.monotonic_s())

        def hear(channel: str, data: bytes) -> None:
            nonlocal session
            if channel == OPENED:
                session = self._fresh()
                session.start(self._clock.monotonic_s())
                return
            self._take(data, session, intake)
            self._lapse(intake)
            session.take()
            self._settle(session)

        return hear

    async def _talk(
        self, session: PeiSession, line: Line, intake: Intake, up: Callable[[], None]
    ) -> None:
        """Say what the session wants said, and wake it when its time comes. Raises LinkDown."""
        told = False
        while True:
            self._wake.clear()
            if data := session.take():
                await self._write(line, data)
            if line.lost.done():
                raise LinkDown(line.lost.result())
            if session.broken:
                raise LinkDown(session.broken)
            if session.ready and not told:
                told = True
                self._note_refused(session)
                self._take_bits(session.max_bits)
                self.heard_at_s = None
                up()
            wait_s = min(session.next_at_s - self._clock.monotonic_s(), self._lapses_in_s())
            if wait_s > 0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
            else:
                await asyncio.sleep(0)
            session.tick(self._clock.monotonic_s())
            self._settle(session)
            self._lapse(intake)

    def _lapse(self, intake: Intake) -> None:
        """Give up messages whose parts did not come, soon after their time: the officer is told."""
        now_ms = self._clock.wall_ms()
        for issi, peer in list(self._gathering.items()):
            at_ms = peer.lapses_at_ms
            if at_ms is None or at_ms <= now_ms:
                del self._gathering[issi]
                with self._each_alone(intake):
                    intake.take(peer.lapse(now_ms), issi, now_ms, _nothing)
                    self._note_gathering(issi, peer)

    @contextlib.contextmanager
    def _each_alone(self, intake: Intake) -> Iterator[None]:
        """Neither a codec nor a desk may raise; should one, this message is given up, and the radio
        goes on: the next may be an emergency."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            self._journal.warn("frame.rejected", link=self.name, error=type(error).__name__)
            intake.reject("decode")

    def _lapses_in_s(self) -> float:
        now_ms = self._clock.wall_ms()
        times = [peer.lapses_at_ms for peer in self._gathering.values()]
        # Never at once again, should the wall clock be set.
        waits = [max(0.05, (at_ms - now_ms) / 1000) for at_ms in times if at_ms is not None]
        return min(waits, default=math.inf)

    def _note_gathering(self, issi: Issi, peer: Peer) -> None:
        if peer.lapses_at_ms is not None:
            self._gathering[issi] = peer

    async def _write(self, line: Line, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._section.write_deadline_s):
                await line.write(data)
        except TimeoutError as error:
            raise LinkDown("does not take what is sent") from error
        except SendFailed:
            pass  # the line is lost, and says so itself
        self._meter.count("link_send_bytes_total", len(data), link=self.name)

    def _note_refused(self, session: PeiSession) -> None:
        for _ in session.refused:
            self._journal.warn(
                "link.state", link=self.name, kind=self.kind, state="service refused"
            )

    def returned(self) -> bool:
        """gateway.ports.Returns."""
        return self._door.returned()

    # ----------------------------------------------------------------- in

    def _take(self, data: bytes, session: PeiSession, intake: Intake) -> int:
        """Judge one slice, in one turn of the loop; returns how many events it made."""
        received_at_ms = self._clock.wall_ms()
        self._tap("", data)
        intake.heard(len(data))
        events = session.feed(data, self._clock.monotonic_s())
        if session.alive:
            session.alive = False
            self.heard_at_s = self._clock.monotonic_s()
        for reason in session.notes:
            intake.reject(reason)
        session.notes.clear()
        heard, session.heard = session.heard, []
        for each in heard:
            self._judge(each, session, intake, received_at_ms)
        self._wake.set()
        return events

    def _judge(self, sds: Sds, session: PeiSession, intake: Intake, received_at_ms: int) -> None:
        """One message of one calling party."""
        caller = tsi.parse(sds.calling)
        if caller is None or not caller.is_of(*self._network):
            intake.reject("identity")
            return
        issi = caller.issi
        if not self._known(issi):
            intake.reject("unknown_terminal", issi)
            return
        with self._each_alone(intake):
            peer = self._peer(issi)
            decoded = peer.feed(
                sds.payload, received_at_ms=received_at_ms, channel=CHANNELS[sds.ai_service]
            )
            owed = peer.replies()
            self._note_gathering(issi, peer)
            intake.take(decoded, issi, received_at_ms, lambda: self._report(session, issi, owed))

    def _report(self, session: PeiSession, issi: Issi, owed: Sequence[Frame]) -> None:
        """A handset hears that its message was received once that is so: on record, as far as it
        must be. One that hears nothing says it again."""
        if session is not self._session:
            return
        until_s = self._clock.monotonic_s() + REPORT_UNTIL_S
        for frame in owed:
            self._submit(session, issi, frame, REPORT, until_s)

    def _peer(self, issi: Issi) -> Peer:
        peer = self._peers.get(issi)
        if peer is None:
            section = self._section
            peer = self._peers[issi] = cast(
                "Peer",
                self._codecs(
                    "sds",
                    side="gateway",
                    max_pdu_bits=self._bits,
                    reports=section.reports,
                    concatenation=section.concatenation,
                    undecorate=section.undecorate,
                    accept_estimated=section.accept_estimated,
                    # Another one in each life: a late report is not of what this one said. They run
                    # faster than messages do, so that a life that was short is left behind.
                    first_reference=self._clock.wall_ms() // REFERENCE_MS % 256,
                ),
            )
            if len(self._peers) > PEERS_MOST:
                gone, _ = self._peers.popitem(last=False)
                self._gathering.pop(gone, None)
        self._peers.move_to_end(issi)
        return peer

    def _take_bits(self, bits: int) -> None:
        """What one message may have, as this radio says; codecs that cut otherwise are let go."""
        if bits != self._bits:
            self._bits = bits
            self._peers.clear()
            self._gathering.clear()

    def _suspects(self, cause: Suspicion, link: str, terminal: Issi) -> None:
        if cause in _OURS:
            self._suspect(cause, link, terminal)

    def _flooding(self, more: bool) -> None:
        say = self._journal.warn if more else self._journal.note
        say("link.state", link=self.name, kind=self.kind, state="flooding" if more else "calm")
        if more:
            self._suspect(Suspicion.FLOOD, self.name, "")

    # ----------------------------------------------------------------- out

    def reaches(self, terminal: Issi) -> bool:
        session = self._session
        if session is None or not session.reachable:
            return False
        return self._clock.monotonic_s() >= session.held and self._known(terminal)

    def locates(self, terminal: Issi) -> bool:
        """LIP has the word; whether this radio sends positions at all, nobody knows before."""
        return self._known(terminal)

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        """The radio has sent every part over the air within the deadline, or SendFailed; what was
        not begun by then never is. expires_in_s has no word here: no part is asked to be stored."""
        del expires_in_s
        session = self._session
        if session is None or not self._known(terminal):
            raise SendFailed("link down")
        until_s = self._clock.monotonic_s() + deadline_s
        frames = self._peer(terminal).encode(message)
        for n, frame in enumerate(frames):
            urgency = _urgency(message, frames, n)
            fault = await self._out(session, terminal, frame, urgency, until_s)
            if fault:
                raise SendFailed(fault)
            self._meter.count("frames_sent_total", link=self.name, type=word_of(message))

    async def _out(
        self, session: PeiSession, terminal: Issi, frame: Frame, urgency: int, until_s: float
    ) -> str:
        """One part; why it was not sent, or nothing."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        token = self._submit(session, terminal, frame, urgency, until_s, future)
        try:
            async with asyncio.timeout(max(0.0, until_s - self._clock.monotonic_s())):
                return await future
        except TimeoutError:
            self._dropped("too late")
            return "too late"
        finally:
            self._waiting.pop(token, None)
            if not future.done() or future.cancelled():
                session.cancel(token, self._clock.monotonic_s())
                self._wake.set()

    def _submit(
        self,
        session: PeiSession,
        terminal: Issi,
        frame: Frame,
        urgency: int,
        until_s: float,
        future: asyncio.Future[str] | None = None,
    ) -> int:
        token = next(self._tokens)
        if future is not None:
            self._waiting[token] = future
        part = Part(
            token=token,
            called=terminal,
            service=SERVICES[frame.channel],
            length_bits=8 * len(frame.data),
            digits=frame.data.hex().upper(),
            urgency=urgency,
            until_s=until_s,
        )
        session.submit(part, self._clock.monotonic_s())
        self._settle(session)
        self._wake.set()
        return token

    def _settle(self, session: PeiSession) -> None:
        """Tell whoever waits what became of theirs."""
        ended, session.ended = session.ended, []
        for each in ended:
            self._dropped(each.fault)
            future = self._waiting.pop(each.token, None)
            if future is not None and not future.done():
                future.set_result(each.fault)

    def _dropped(self, fault: str) -> None:
        """What never left the queue is counted, a report for which nobody waits too."""
        if fault in _DROP:
            self._meter.count("queue_dropped_total", queue="outbox", reason=_DROP[fault])


_DROP = {"full": "full", "too late": "expired"}


def _urgency(message: Downlink, frames: Sequence[Frame], n: int) -> int:
    """Of its nth message. Where each text is one, the first holds every danger word (rendering):
    what is behind it waits for the danger words of others, and for who was not told SENT."""
    match message:
        case Result(texts=texts, danger=danger) if danger and n and len(texts) == len(frames):
            return ANSWER
        case Result(danger=danger) | Notice(danger=danger) if danger:
            return DANGER
        case Result():
            return ANSWER
        case Receipt():
            # Who hears no SENT in 5 s takes to voice: behind others' answers it would starve.
            return REPORT
        case Notice() | Locate():
            return NOTICE
        case _:
            return ANSWER


def _figure(text: str) -> int | None:
    return int(text) if text else None


def _nothing() -> None:
    """Nobody asked for a report of what never came whole."""
