"""An officer's TETRA handset: KeySDS typed as text messages, pre-coded statuses, positions as LIP.

Its bearer is the air around the gateway's own radio (`TetraRadio`). What it reads is what stands
on its screen: the gateway's words in text messages, by the form that docs/interfaces.md gives them.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gateway.messages import (
    AckState,
    CheckRequest,
    Decoded,
    DeliveryAck,
    LocationFix,
    Notice,
    Receipt,
    StatusReport,
    TextPart,
    Uplink,
)
from simulators import tetra_air as air
from simulators.clock import Clock
from simulators.patrol import Patrol
from simulators.radio import EMERGENCY, Radio, typed
from simulators.tetra_air import Sdu, Text
from simulators.tetra_mobile import Mobile
from simulators.tetra_radio import TetraRadio

STATUS_BASE = 0x8000
"""Where a network's own statuses begin: ours are counted from there."""
UNREAD_MOST = 64

_SENT = re.compile(r"(?:Q([0-9]{1,3}) )?SENT ([0-9A-Z]{4})")
_REFUSED = re.compile(r"(?:Q([0-9]{1,3}) )?XX (.*)")
_PART = re.compile(r"(?:Q([0-9]{1,3}) )?([0-9A-Z]{4}) ([1-9])/([1-9]) (.*)", re.DOTALL)
_NOTICE = re.compile(r"([0-9A-HJKMNP-TV-Z]{4}) (.*)", re.DOTALL)


def shown(text: str) -> Decoded:
    """What a text on the screen means to its officer."""
    if found := _SENT.fullmatch(text):
        return Receipt(ref="", check="", short=found[2], accepted=True, client_ref=found[1] or "")
    if found := _REFUSED.fullmatch(text):
        return Receipt(
            ref="", check="", short="", accepted=False, why=found[2], client_ref=found[1] or ""
        )
    if (found := _PART.fullmatch(text)) and int(found[3]) <= int(found[4]):
        return TextPart(
            short=found[2],
            part=int(found[3]),
            parts=int(found[4]),
            text=found[5],
            client_ref=found[1] or "",
        )
    if found := _NOTICE.fullmatch(text):
        return Notice(kind="text", text=found[2], short=found[1])
    return Notice(kind="text", text=text)


class TetraHandset(Radio):
    """A handset in the cell of one gateway's radio."""

    bearer = "tetra"

    def __init__(
        self,
        *,
        issi: str,
        callsign: str,
        base: TetraRadio,
        clock: Clock,
        patrol: Patrol | None = None,
        fix_every_s: float = 1.0,
        think_s: float = 2.0,
        resends: bool = False,
        mobile: Mobile | None = None,
        alarm: Literal["status", "lip", "both"] = "status",
        statuses: Mapping[int, int] | None = None,
    ) -> None:
        """alarm: how its orange button says so; by lip, with its last place and nothing else.
        statuses: our codes -> the values on the air; else counted from STATUS_BASE."""
        super().__init__(
            issi=issi,
            callsign=callsign,
            clock=clock,
            patrol=patrol,
            resends=resends,
            fix_every_s=fix_every_s,
            think_s=think_s,
        )
        self.base = base
        self.mobile = mobile or Mobile()
        self.screen: list[Text] = []
        """What came, newest last."""
        self._ssi = int(issi)
        self._alarm = alarm
        self._statuses = statuses or {}
        self._unread: OrderedDict[tuple[str, int], Text] = OrderedDict()
        self._place: LocationFix | None = None
        base.attach(self._ssi, self._hear)

    # ----------------------------------------------------------------- coverage

    @property
    def plugged(self) -> bool:
        return self.base.cell.covers(self._ssi)

    def plug(self) -> None:
        """Back in the network's reach."""
        self.base.cell.cover(self._ssi, True)

    def unplug(self) -> None:
        """Out of it: in a cellar, or switched off."""
        self.base.cell.cover(self._ssi, False)
        self.changed.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.beat(), name=f"beat {self.callsign}")
            group.create_task(self.walk(), name=f"walk {self.callsign}")

    # ----------------------------------------------------------------- what is said

    def question(self, request: CheckRequest) -> CheckRequest:
        """With a client reference (`Q`), by which the answer is known again."""
        if request.client_ref:
            return request
        number = self.next_reference()
        return msgspec.structs.replace(
            request, typed=f"{request.typed} Q{number}", client_ref=number
        )

    def say(self, message: Uplink) -> bool:
        sent = [self.base.transmit(self._ssi, sdu) for sdu in self._sdus(message)]
        self.lost += sent.count(False)
        return all(sent)

    def _sdus(self, message: Uplink) -> Sequence[Sdu]:
        match message:
            case LocationFix():
                self._place = message
                return (self._position(message),)
            case StatusReport(code=code):
                return self._status(code)
            case DeliveryAck(state=AckState.READ):
                text = self._unread.pop((message.check, message.part), None)
                return self.mobile.opened(text) if text is not None else ()
            case DeliveryAck():
                return ()  # the handset itself said so, when it came
            case _:
                return self.mobile.text(typed(message) or "")

    def _status(self, code: int) -> Sequence[Sdu]:
        value = EMERGENCY if code == EMERGENCY else self._statuses.get(code, STATUS_BASE | code)
        said = [air.status(value)]
        if code != EMERGENCY or self._alarm == "status" or self._place is None:
            return said
        place = self._position(self._place, reason=air.EMERGENCY_REASON)
        return (place,) if self._alarm == "lip" else (*said, place)

    def _position(self, fix: LocationFix, reason: int = air.BY_INTERVAL) -> Sdu:
        return air.short_position(
            fix.lat, fix.lon, speed_mps=fix.speed_mps, course_deg=fix.course_deg, reason=reason
        )

    # ----------------------------------------------------------------- what is heard

    def _hear(self, sdu: Sdu) -> None:
        came = self.mobile.hear(sdu)
        for reply in came.replies:
            self.base.transmit(self._ssi, reply)
        if came.locate is not None and self._place is not None:
            self.base.transmit(self._ssi, self._position(self._place, reason=air.ON_DEMAND))
        for text in came.texts:
            self.screen.append(text)
            del self.screen[:-UNREAD_MOST]
            message = shown(text.text)
            if isinstance(message, TextPart):
                self._unread[message.short, message.part] = text
                while len(self._unread) > UNREAD_MOST:
                    self._unread.popitem(last=False)
            self.heard([message])
        self.changed.set()
