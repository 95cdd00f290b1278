"""An officer with a TETRA handset for the proofs, on the simulated radio at the gateway's port.

The simulated radio is written from the protocol reference and may not import the product's codecs
(import contract `simulated-air`); what stands in the texts is read as officers.py reads it.
"""

from __future__ import annotations

import re
import time

from simulators import tetra_air as air
from simulators.tetra_mobile import Mobile
from simulators.tetra_radio import TetraRadio
from tests.system.officers import TextOfficer

LAT_STEP, LON_STEP = 180 / 2**24, 360 / 2**25
"""Degrees that one step of LIP is worth."""

_TYPED = re.compile(rb"[A-Z].* Q(\d{1,3})")


class TetraOfficer(TextOfficer):
    """A handset in the cell of a simulated radio: texts, statuses and positions over the air. Its
    handset reports by itself what came; where asked, that it was read, too, as far as it
    acknowledges."""

    def __init__(
        self, issi: str, base: TetraRadio, *, ack: bool = True, mobile: Mobile | None = None
    ) -> None:
        super().__init__(issi, ack=ack)
        # The air takes its time both ways: sooner is no sign that it was lost.
        self.resend_s = 4.0
        self.base = base
        self.mobile = mobile or Mobile()
        self.texts: list[air.Text] = []
        """What came, as it came: with its PID, its reference, what report it asked for."""
        self.located = 0
        """How often it was asked where it is."""
        self._ssi = int(issi)
        base.attach(self._ssi, self._took)

    async def run(self) -> None:
        await self._repeat()

    def say(self, text: str) -> None:
        raw = text.encode()
        self.sent.append((time.monotonic(), "sds", raw))
        for sdu in self.mobile.text(text):
            self.base.transmit(self._ssi, sdu)

    def status(self, code: int) -> None:
        """A pre-coded status, by the number that it has on the air."""
        self.base.transmit(self._ssi, air.status(code))

    def emergency(self, *, sure: bool = False) -> None:
        """Call for help. sure: nothing can lose it on the way."""
        self.status(air.EMERGENCY)
        if sure:
            self.emergencies.append(time.monotonic())

    def fix(self, lat6: int, lon6: int, *, sure: bool = False) -> None:
        """Where it is, as near as LIP's own grid allows. sure: nothing can lose it on the way."""
        self.base.transmit(self._ssi, air.short_position(lat6 / 1e6, lon6 / 1e6))
        if sure:
            steps = round(lat6 / 1e6 / LAT_STEP), round(lon6 / 1e6 / LON_STEP)
            place6 = round(steps[0] * LAT_STEP * 1e6), round(steps[1] * LON_STEP * 1e6)
            self.fixes.append((time.monotonic(), *place6))

    def shown(self, number: str) -> list[air.Text]:
        """The texts that brought the parts of an answer, in order; [] while one is missing."""
        wanted = [
            f"Q{number} {p['short']} {p['part']}/{p['parts']} {p['text']}"
            for p in self.parts(number)
        ]
        by_text = {each.text: each for each in self.texts}
        return [by_text[text] for text in wanted]

    def _ref_of(self, channel: str, raw: bytes) -> str:
        found = _TYPED.fullmatch(raw)
        return found[1].decode() if found else ""

    def _took(self, sdu: air.Sdu) -> None:
        came = self.mobile.hear(sdu)
        self.located += came.locate is not None
        if self.acknowledges:
            for reply in came.replies:
                self.base.transmit(self._ssi, reply)
        for text in came.texts:
            self.texts.append(text)
            self._read(text.text.encode())
            if self.acknowledges:
                for reply in self.mobile.opened(text):
                    self.base.transmit(self._ssi, reply)
