"""The dialogue with a radio, in virtual time: with the simulated one, and with one that does as the
test says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters.links.pei_dialects import DIALECTS, Dialect
from adapters.links.pei_session import (
    Part,
    PeiSession,
)
from simulators.tetra_air import Sdu
from simulators.tetra_cell import STILL, Air, Cell
from simulators.tetra_pei import MOTOROLA_LIKE, PLAIN, SEPURA_LIKE, Habits, Pei

ISSI = "5001234"
HANDSET = 5_001_234
BEAT_S = 0.05


def part(token: int, *, urgency: int = 2, until_s: float = 1e9, service: int = 12) -> Part:
    digits = f"8004{token % 256:02X}01{token:04X}" if service == 12 else "8002"
    return Part(
        token=token,
        called=ISSI,
        service=service,
        length_bits=4 * len(digits),
        digits=digits,
        urgency=urgency,
        until_s=until_s,
    )


class Rig:
    """A session and a simulated radio on one wire without delay, in virtual time."""

    def __init__(
        self,
        habits: Habits = PLAIN,
        *,
        air: Air = STILL,
        dialect: str | Dialect = "plain",
        services: tuple[str, ...] = (),
        seed: int = 1,
        max_bits: int = 668,
    ) -> None:
        self.now = 1000.0
        self.pei = Pei(habits)
        self.cell = Cell(self.pei, air, seed=seed)
        self.at_handset: list[Sdu] = []
        self.cell.attach(HANDSET, self.at_handset.append)
        self.session = PeiSession(
            DIALECTS[dialect] if isinstance(dialect, str) else dialect,
            services=services,
            max_bits=max_bits,
        )
        self.wrote = b""
        self.deaf = False
        """The cable is out: nothing passes, either way."""
        self.ended: dict[int, str] = {}
        self.session.start(self.now)
        self.pump(self.pei.habits.babble)

    def pump(self, said: bytes = b"") -> None:
        """Let both say what they have to say now."""
        for _ in range(10_000):
            said += self.cell.due(self.now)
            if said and not self.deaf:
                self.session.feed(said, self.now)
            self.session.tick(self.now)
            data = self.session.take()
            for each in self.session.ended:
                assert each.token not in self.ended, "ended twice"
                self.ended[each.token] = each.fault
            self.session.ended.clear()
            assert self.session.next_at_s < float("inf")
            if not data:
                return
            self.wrote += data
            said = b"" if self.deaf else self.cell.wrote(data, self.now)
        pytest.fail("they never come to rest")

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> None:
        end = self.now + seconds
        while self.now < end and not until():
            self.now = round(self.now + BEAT_S, 6)
            self.pump()

    def up(self) -> None:
        self.run(30.0, lambda: self.session.ready)
        assert self.session.ready, self.session.broken

    def submit(self, *parts: Part) -> None:
        for each in parts:
            self.session.submit(each, self.now)
        self.pump()

    def commands(self) -> list[str]:
        return [line for line in self.wrote.decode("latin-1").split("\r\n") if "AT" in line]


@pytest.mark.parametrize("habits", [PLAIN, MOTOROLA_LIKE, SEPURA_LIKE], ids=lambda h: h.make)
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_it_sets_a_radio_up_and_never_resets_it(habits: Habits, dialect: str) -> None:
    """Every make with every dialect: registered, and one message each way."""
    rig = Rig(habits, dialect=dialect)
    rig.up()
    assert b"ATZ" not in rig.wrote
    assert (3, 130) in rig.pei.registered
    assert rig.session.reachable
    rig.cell.transmit(HANDSET, Sdu(12, bytes.fromhex("82042A0156"), 40), rig.now)
    rig.submit(part(1))
    rig.run(5.0)
    assert [each.calling for each in rig.session.heard] == [ISSI]
    assert rig.ended == {1: ""}
    assert [sdu.data.hex().upper() for sdu in rig.at_handset] == ["800401010001"]
    assert rig.pei.counts["overlapping"] == 0
