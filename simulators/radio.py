"""What every simulated radio can do, whatever carries it, and the life it leads by itself.

A radio is a Handset (what was asked and answered), a Patrol (where it is) and a bearer. This
module holds all but the bearer: turning typed enquiries into questions, fixes at an interval,
and the beat that sends what is due.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import msgspec

from adapters.codecs import keysds
from gateway.messages import (
    CancelRequest,
    CheckRequest,
    Decoded,
    EchoTest,
    HelpRequest,
    LocationFix,
    MalformedCheck,
    RecallRequest,
    StatusReport,
    Uplink,
)
from simulators.clock import Clock
from simulators.handset import Exchange, Handset
from simulators.patrol import Patrol

BEAT_S = 0.1
EMERGENCY = 0
CLIENT_REFS = 999
"""KeySDS `Q` has three digits; they wrap, as references do on real radios."""


class BadEnquiry(ValueError):
    """The text is no KeySDS enquiry. Says what is wrong, never what was typed."""


def enquiry(text: str) -> CheckRequest:
    """The question that a KeySDS text asks. Raises BadEnquiry."""
    match keysds.parse(text):
        case CheckRequest() as request:
            return request
        case MalformedCheck(why=why):
            raise BadEnquiry(why)
        case _:
            raise BadEnquiry("NO QUESTION TO THE PNC")


def typed(message: Uplink) -> str | None:
    """What an officer types to say this; None where a keypad has no word for it."""
    return keysds.written(message)


class Radio(ABC):
    """One officer's terminal. `run` leads its life until cancelled."""

    bearer = ""
    asks = True
    """Whether somebody sits there who could ask."""

    def __init__(
        self,
        *,
        issi: str,
        callsign: str,
        clock: Clock,
        patrol: Patrol | None,
        resends: bool,
        fix_every_s: float = 1.0,
        think_s: float = 2.0,
    ) -> None:
        self.issi = issi
        self.callsign = callsign
        self.handset = Handset(resends=resends, think_s=think_s)
        self.fixes_sent = 0
        self.lost = 0
        """Messages that the bearer could not take: out of coverage, or nobody reads."""
        self.changed = asyncio.Event()
        """Set whenever something was heard or became due; whoever waits clears it."""
        self._clock = clock
        self._patrol = patrol
        self._fix_every_s = fix_every_s
        self._count = 0

    # ----------------------------------------------------------------- what the officer does

    def ask(self, text: str) -> Exchange:
        """Send a KeySDS enquiry (`V TE99ABC R1`). Raises BadEnquiry."""
        request = self.question(enquiry(text))
        exchange = self.handset.ask(request, self._clock.monotonic_s())
        self.say(request)
        self.changed.set()
        return exchange

    def key_in(self, text: str) -> Exchange | None:
        """Whatever a keypad takes: a question, or help, cancel, echo, recall. Raises BadEnquiry."""
        match keysds.parse(text):
            case HelpRequest() | CancelRequest() | EchoTest() | RecallRequest() as message:
                self.say(message)
                return None
            case _:
                return self.ask(text)

    def status(self, code: int) -> None:
        """Send a pre-coded status."""
        self.say(StatusReport(code=code))

    def emergency(self) -> None:
        """Press the orange button."""
        self.status(EMERGENCY)

    def next_reference(self) -> str:
        """1 to 999, then again from 1."""
        self._count = self._count % CLIENT_REFS + 1
        return str(self._count)

    async def until(self, ready: Callable[[], bool], deadline_s: float) -> bool:
        """Wait until `ready()` holds. False when it does not within deadline_s (real seconds)."""
        try:
            async with asyncio.timeout(deadline_s):
                while not ready():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return ready()
        return True

    # ----------------------------------------------------------------- what the bearer does

    @abstractmethod
    def question(self, request: CheckRequest) -> CheckRequest:
        """The same question as this bearer puts it (its reference, its time)."""

    @abstractmethod
    def say(self, message: Uplink) -> bool:
        """Put a message on the air. False (and counted) when the bearer cannot take it."""

    @abstractmethod
    def plug(self) -> None:
        """Come back after `unplug`."""

    @abstractmethod
    def unplug(self) -> None:
        """Be gone: cable pulled, out of coverage."""

    @property
    @abstractmethod
    def plugged(self) -> bool: ...

    @abstractmethod
    async def run(self) -> None:
        """Live until cancelled; then close everything."""

    # ----------------------------------------------------------------- its own life

    def heard(self, messages: Sequence[Decoded]) -> None:
        """Take what the codec made of the bearer's bytes; acknowledge what asks for it."""
        now_s = self._clock.monotonic_s()
        for message in messages:
            for reply in self.handset.heard(message, now_s):
                self.say(reply)
        self.changed.set()

    async def beat(self) -> None:
        """Send what is due, ten times a second. Never returns."""
        while True:
            await self._clock.sleep(BEAT_S)
            due = self.handset.due(self._clock.monotonic_s())
            for message in due:
                self.say(message)
            if due:
                self.changed.set()

    async def walk(self) -> None:
        """Send a fix at each interval, jitter-free so that tests can count. Never returns."""
        if self._patrol is None:
            return
        while True:
            position = self._patrol.advance(self._fix_every_s)
            fix = LocationFix(
                lat=round(position.lat, 6),
                lon=round(position.lon, 6),
                fixed_at_ms=self._clock.wall_ms(),
                speed_mps=round(position.speed_mps, 2),
                course_deg=round(position.course_deg, 1),
                accuracy_m=8.0,
            )
            if self.say(fix):
                self.fixes_sent += 1
            await self._clock.sleep(self._fix_every_s)


class Tally(msgspec.Struct):
    """What a set of radios lived through, for a summary."""

    asked: int = 0
    receipts: int = 0
    answered: int = 0
    refused: int = 0
    no_answer: int = 0
    waiting: int = 0
    voice: int = 0
    fixes: int = 0
    lost: int = 0
    unmatched: int = 0


def tally(radios: list[Radio]) -> Tally:
    """Count over the exchanges that each handset still remembers."""
    total = Tally()
    for radio in radios:
        handset = radio.handset
        total.fixes += radio.fixes_sent
        total.lost += radio.lost
        total.unmatched += handset.unmatched
        for exchange in handset.exchanges:
            total.asked += 1
            total.receipts += exchange.receipt_at_s is not None
            total.voice += exchange.voice
            match exchange.reading:
                case None:
                    total.waiting += 1
                case "answered":
                    total.answered += 1
                case "refused":
                    total.refused += 1
                case _:
                    total.no_answer += 1
    return total
