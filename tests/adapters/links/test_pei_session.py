"""The dialogue with a radio, in virtual time: with the simulated one, and with one that does as the
test says."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.links.pei_dialects import DIALECTS, Dialect
from adapters.links.pei_session import HOLD_S, OWED_S, SYNC_WITHIN_S, Part, PeiSession, Stage
from simulators.tetra_air import Sdu
from simulators.tetra_cell import ROUGH, SLOW, STILL, Air, Cell
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
        pei: Pei | None = None,
    ) -> None:
        self.now = 1000.0
        self.pei = pei or Pei(habits)
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


# --------------------------------------------------------------------------- getting in step


class Hand:
    """A session before a radio that does as the test says: `answers` is asked for each command, and
    for each payload (with its Ctrl-Z); what it gives is said at once."""

    def __init__(
        self, dialect: Dialect | None = None, *, silent: bool = False, **options: Any
    ) -> None:
        self.now = 1000.0
        self.session = PeiSession(dialect or DIALECTS["plain"], **options)
        self.log: list[tuple[float, str]] = []
        self.ended: dict[int, str] = {}
        self.answers: Callable[[str], str] = (lambda _said: "") if silent else self.usual
        self.session.start(self.now)
        self.pump()

    def usual(self, said: str) -> str:
        if said.startswith("AT+CMGS=") and not said.endswith("?"):
            return ""
        return "\r\n+CMGS: 0\r\n\r\nOK\r\n" if said.endswith("\x1a") else "\r\nOK\r\n"

    def except_for(self, **answers: str) -> None:
        """As usual, but for what begins so (`_` for what cannot stand in a name)."""
        self.answers = lambda said: next(
            (
                answer
                for begin, answer in answers.items()
                if said.startswith(begin.replace("_", "+"))
                or (begin == "GO" and said[-1] == "\x1a")
            ),
            self.usual(said),
        )

    def say(self, text: str) -> None:
        self.session.feed(text.encode("latin-1"), self.now)
        self.pump()

    def pump(self) -> None:
        for _ in range(500):
            data = self.session.take().decode()
            self.collect()
            if not data:
                return
            for piece in re.findall(r"[^\r\n\x1a]*(?:\r\n|\x1a)", data):
                if piece.strip("\x1b\r\n"):
                    self.log.append((self.now, piece.strip("\r\n")))
                    self.session.feed(self.answers(piece.strip("\x1b\r\n")).encode(), self.now)
                elif "\x1b" in piece:
                    self.log.append((self.now, "ESC"))
        pytest.fail("they never come to rest")

    def collect(self) -> None:
        for each in self.session.ended:
            assert each.token not in self.ended, "ended twice"
            self.ended[each.token] = each.fault
        self.session.ended.clear()

    def run(self, seconds: float) -> None:
        """To each of the session's own moments."""
        end = self.now + seconds
        for _ in range(10_000):
            if self.session.stage is Stage.OVER or self.session.next_at_s > end:
                break
            self.now = max(self.now, self.session.next_at_s)
            self.session.tick(self.now)
            self.pump()
        else:
            pytest.fail("it never waits")
        self.now = end
        self.session.tick(end)
        self.pump()

    def up(self) -> None:
        self.run(2.0)
        assert self.session.ready, (self.session.stage, self.session.broken)
        self.log.clear()

    def submit(self, *parts: Part) -> None:
        for each in parts:
            self.session.submit(each, self.now)
        self.pump()

    def said(self, begin: str = "") -> list[str]:
        return [said for _, said in self.log if said.startswith(begin)]

    def sends(self) -> list[str]:
        return [said for _, said in self.log if said.endswith("\x1a")]


def test_a_babbling_radio_is_got_in_step_with_and_its_messages_are_heard() -> None:
    """Errors without their plus, voice signalling, noise, old answers: and, in the midst of it, an
    emergency. None of it is taken for an answer of ours."""
    hand = Hand(silent=True)
    hand.session.feed(b"", hand.now)
    for _ in range(8):
        hand.say("\x00\xffCME ERROR: 35\r\n\r\n+CTXG: 1,3,0,0,3,02340001405001234\r\n\x80\x81\r\n")
        hand.run(0.25)
    hand.say("\r\n+CTSDSR: 13,5001234,0,6000001,0,16\r\n0000\r\n")
    assert [each.digits for each in hand.session.heard] == ["0000"]
    assert hand.session.stage is Stage.SYNC
    hand.say("\r\nOK\r\n\r\n+GMI: X\r\n\r\nOK\r\n")
    hand.run(0.2)
    hand.say("\r\nOK\r\n")
    hand.run(0.2)
    assert hand.session.stage is Stage.QUIET, "what was left from before still comes"
    hand.answers = hand.usual
    hand.run(1.0)
    assert hand.session.ready


def test_a_radio_that_babbles_results_for_ever_is_given_up() -> None:
    hand = Hand(silent=True)
    hand.submit(part(1))
    for _ in range(1000):
        hand.say("\r\n+CME ERROR: 35\r\n")
        hand.run(0.05)
    assert hand.session.broken == "radio does not answer"
    assert hand.ended == {1: "link down"}


def test_a_radio_that_says_nothing_is_given_up_in_time() -> None:
    hand = Hand(silent=True)
    hand.run(SYNC_WITHIN_S - 0.1)
    assert not hand.session.broken
    hand.run(0.2)
    assert hand.session.broken == "radio does not answer"


def test_a_radio_that_was_left_without_words_and_with_an_echo() -> None:
    """ATV0, ATE1, AT+CMEE=0 of whoever had it before."""
    rig = Rig(MOTOROLA_LIKE)
    rig.up()
    rig.pei.verbose, rig.pei.echo, rig.pei.cmee = False, True, False
    again = Rig(MOTOROLA_LIKE, pei=rig.pei)
    again.up()
    again.submit(part(1))
    again.run(1.0)
    assert again.ended == {1: ""}


def test_a_radio_that_waits_for_somebodys_payload() -> None:
    """Of a daemon that was killed between command and payload: our AT is no payload."""
    pei = Pei(PLAIN)
    pei.feed(b"AT+CTSDS=12,0\rAT+CMGS=5001234,32\r", 999.0)
    rig = Rig(pei=pei)
    rig.up()
    assert pei.counts["aborted"] == 1
    assert rig.at_handset == []


# --------------------------------------------------------------------------- services


def test_38_is_success_and_39_costs_its_own_service_alone() -> None:
    hand = Hand(services=("1,3,130", "1,3,137", "1,2,20"))
    hand.except_for(**{"AT_CTSP=1,3,130": "\r\n+CME ERROR: 38\r\n"})
    hand.run(2.0)
    assert hand.session.ready
    assert hand.session.refused == set()
    hand = Hand(services=("1,3,130", "1,3,137", "1,2,20"))
    hand.except_for(**{"AT_CTSP=1,3,137": "\r\n+CME ERROR: 39\r\n"})
    hand.run(2.0)
    assert hand.session.ready
    assert hand.session.refused == {"1,3,137"}
    assert hand.said("AT+CTSP=") == ["AT+CTSP=1,3,130", "AT+CTSP=1,3,137", "AT+CTSP=1,2,20"]


def test_a_radio_that_gives_no_service_at_all_is_no_link() -> None:
    hand = Hand(services=("1,3,130", "1,2,20"))
    hand.except_for(AT_CTSP="\r\n+CME ERROR: 4\r\n")
    hand.run(2.0)
    assert hand.session.broken == "radio refuses every service"


def test_a_busy_radio_is_asked_for_a_service_again() -> None:
    hand = Hand(services=("1,3,130",))
    hand.except_for(AT_CTSP="\r\n+CME ERROR: 42\r\n")
    hand.run(1.9)
    assert len(hand.said("AT+CTSP=")) == 2
    hand.answers = hand.usual
    hand.run(2.0)
    assert hand.session.ready


def test_a_command_that_hangs_is_skipped_and_what_was_set_is_set_again() -> None:
    """It may have restarted in the middle: then what came before is gone."""
    hand = Hand(services=("1,3,130",), renew_s=300.0)
    hand.except_for(AT_GMM="")
    hand.run(10.0)
    assert hand.session.ready
    assert hand.said("AT+GMR?")
    before = len(hand.said("AT+CTSP="))
    hand.run(12.0)
    assert len(hand.said("AT+CTSP=")) == before + 1


def test_three_that_hang_are_no_radio() -> None:
    hand = Hand()
    hand.except_for(AT_G="")
    hand.run(30.0)
    assert hand.session.broken == "radio does not answer"


@pytest.mark.parametrize("word", ["+CREG: 1", "+CTOM: 0", "+CTOM: 1"])
def test_services_are_registered_again_when_it_speaks_of_itself(word: str) -> None:
    """What a radio says after it has restarted, moved, or been turned to another mode. Not at once
    each time: it may say so for ever."""
    hand = Hand(services=("1,3,130",))
    hand.up()
    hand.say(f"\r\n{word}\r\n")
    hand.run(12.0)
    assert hand.said("AT+CTSP=") == ["AT+CTSP=1,3,130"]
    for _ in range(200):
        hand.say(f"\r\n{word}\r\n")
        hand.run(0.1)
    assert len(hand.said("AT+CTSP=")) <= 4


def test_a_radio_that_restarts_without_a_word_is_registered_again() -> None:
    """Seen by its silence, and, when it is back before anybody asks, by the clock."""
    quiet = Habits(make="QUIET", boot_s=4.0)
    rig = Rig(quiet)
    rig.up()
    rig.pei.creg = 1
    rig.pei._forget()
    assert not rig.pei.registered
    rig.run(310.0, lambda: rig.pei.registered)
    assert (3, 130) in rig.pei.registered
    rig.deaf = True
    rig.run(22.0)
    assert rig.session.stage in (Stage.SYNC, Stage.READY)
    rig.pei._forget()
    rig.run(6.0)
    rig.deaf = False
    rig.run(12.0)
    assert (3, 130) in rig.pei.registered
    assert rig.session.ready


def test_a_radio_that_reboots_is_registered_again() -> None:
    rig = Rig(MOTOROLA_LIKE)
    rig.up()
    rig.cell.pei.boot(rig.now)
    rig.run(60.0)
    assert (3, 130) in rig.pei.registered
    rig.submit(part(1))
    rig.run(2.0)
    assert rig.ended == {1: ""}


# --------------------------------------------------------------------------- life and network


def test_it_is_asked_whether_it_lives_and_silence_is_noticed() -> None:
    hand = Hand(keep_alive_s=20.0)
    hand.up()
    hand.run(90.0)
    assert hand.said() == ["AT+CREG?"] * 4
    hand.answers = lambda _said: ""
    hand.run(26.0)
    assert hand.session.stage is Stage.SYNC
    hand.run(20.0)
    assert hand.session.broken == "radio does not answer"


def test_off_the_network_nobody_is_reached_and_back_on_it_services_are_new() -> None:
    hand = Hand(services=("1,3,130",))
    hand.except_for(**{"AT_CREG?": "\r\n+CREG: 1\r\n\r\nOK\r\n"})
    hand.up()
    hand.run(12.0)
    assert hand.session.reachable
    for figure in (0, 2, 3):
        hand.say(f"\r\n+CREG: {figure}\r\n")
        assert not hand.session.reachable
    hand.log.clear()
    hand.run(45.0)
    assert hand.session.reachable, "asked in passing, it said so"
    assert hand.said("AT+CTSP=") == ["AT+CTSP=1,3,130"] * len(hand.said("AT+CTSP="))
    assert hand.said("AT+CTSP=")


# --------------------------------------------------------------------------- one message


def test_a_message_is_sent_when_the_air_says_so_and_not_before() -> None:
    """`+CMGS: 0` and OK are the radio's word, not the air's."""
    hand = Hand()
    hand.up()
    hand.submit(part(1))
    assert hand.said() == [
        "AT+CTSDS=12,0",
        "AT+CMGS=5001234,48",
        "800401010001\x1a",
    ]
    hand.run(10.0)
    assert hand.ended == {}
    for word in ("+CMGS: 0,0,7", "+CMGS: 0,2,7", "+CMGS: 0,3,7", "+CMGS: 1,4,7", "+CMGS: 0"):
        hand.say(f"\r\n{word}\r\n")
    assert hand.ended == {}
    hand.say("\r\n+CMGS: 0,4,7\r\n")
    assert hand.ended == {1: ""}


def test_the_air_may_be_faster_than_the_ok() -> None:
    hand = Hand()
    hand.up()
    hand.except_for(GO="\r\n+CMGS: 3\r\n\r\n+CMGS: 3,4,9\r\n\r\nOK\r\n")
    hand.submit(part(1))
    assert hand.ended == {1: ""}


def test_failed_on_air_it_is_tried_once_more() -> None:
    hand = Hand()
    hand.up()
    hand.submit(part(1))
    hand.say("\r\n+CMGS: 0,5,7\r\n")
    assert hand.ended == {}
    hand.run(1.1)
    assert len(hand.sends()) == 2
    hand.say("\r\n+CMGS: 0,5,8\r\n")
    assert hand.ended == {1: "failed on air"}


def test_without_a_word_of_the_air_it_is_not_sent() -> None:
    hand = Hand(air_s=15.0)
    hand.up()
    hand.submit(part(1))
    hand.run(14.9)
    assert hand.ended == {}
    hand.run(0.2)
    assert hand.ended == {1: "no word of the air"}


def test_a_late_word_of_one_message_is_never_the_next_ones() -> None:
    """Of a radio that calls every message 0: it is given no other while it may speak of one."""
    hand = Hand(air_s=15.0)
    hand.up()
    hand.submit(part(1), part(2), part(3))
    hand.run(15.1)
    assert hand.ended == {1: "no word of the air"}
    assert len(hand.sends()) == 1
    hand.say("\r\n+CMGS: 0,4,7\r\n")
    assert hand.ended == {1: "no word of the air"}
    assert len(hand.sends()) == 2, "that was of the first: it is free again"
    hand.run(15.1)
    assert list(hand.ended) == [1, 2]
    assert len(hand.sends()) == 2
    hand.run(OWED_S)
    assert len(hand.sends()) == 3, "of that one it will not speak any more"
    hand.say("\r\n+CMGS: 0,4,9\r\n")
    assert hand.ended[3] == ""


def test_a_radio_that_tells_its_messages_apart_is_not_waited_for() -> None:
    """By its figure a late word is known for what it is."""
    hand = Hand(air_s=15.0)
    hand.up()
    figures = iter(range(9))
    hand.answers = lambda said: (
        f"\r\n+CMGS: {next(figures)}\r\n\r\nOK\r\n" if said[-1] == "\x1a" else hand.usual(said)
    )
    hand.submit(part(1), part(2), part(3))
    hand.say("\r\n+CMGS: 0,4,1\r\n")
    hand.run(15.1)
    assert list(hand.ended) == [1, 2]
    assert len(hand.sends()) == 3
    hand.say("\r\n+CMGS: 1,4,2\r\n")
    assert 3 not in hand.ended
    hand.say("\r\n+CMGS: 2,4,3\r\n")
    assert hand.ended[3] == ""


def test_a_word_that_is_said_twice_counts_once() -> None:
    hand = Hand()
    hand.up()
    hand.submit(part(1), part(2), part(3))
    hand.say("\r\n+CMGS: 0,4,1\r\n")
    hand.say("\r\n+CMGS: 0,4,2\r\n")
    hand.say("\r\n+CMGS: 0,4,2\r\n")
    assert sorted(hand.ended) == [1, 2]


@pytest.mark.parametrize("code", [0, 14, 30, 31, 42])
def test_a_busy_network_is_tried_again_ever_more_rarely(code: int) -> None:
    hand = Hand()
    hand.up()
    hand.except_for(GO=f"\r\n+CME ERROR: {code}\r\n")
    hand.submit(part(1))
    began = hand.now
    hand.run(10.0)
    assert hand.ended == {1: "busy"}
    at = [round(at - began, 1) for at, said in hand.log if said.endswith("\x1a")]
    assert at == [0.0, 0.5, 1.5, 3.5]
    assert not hand.said("ESC")


def test_while_one_backs_off_another_goes() -> None:
    hand = Hand()
    hand.up()
    hand.except_for(GO="\r\n+CME ERROR: 42\r\n")
    hand.submit(part(1))
    hand.answers = hand.usual
    hand.submit(part(2))
    hand.say("\r\n+CMGS: 0,4,1\r\n")
    assert hand.ended == {2: ""}
    hand.run(1.0)
    hand.say("\r\n+CMGS: 0,4,2\r\n")
    assert hand.ended == {2: "", 1: ""}


@pytest.mark.parametrize("code", [3, 20, 34, 35, 36, 37])
def test_out_of_step_it_is_got_in_step_and_tried_once_more(code: int) -> None:
    """ESC, AT until OK, the parameters anew; where nothing seems registered, that too."""
    hand = Hand(services=("1,3,130",))
    hand.up()
    hand.except_for(GO=f"\r\n+CME ERROR: {code}\r\n")
    hand.submit(part(1))
    hand.run(8.0)
    assert hand.ended == {1: "refused by the radio"}
    assert len(hand.sends()) == 2
    said = [said for said in hand.said() if not said.startswith(("ATE", "ATV", "AT+CMEE"))]
    again = said.index("ESC")
    assert said[again + 1].endswith("AT")
    renewed = ["AT+CTSP=1,3,130"] if code in (3, 35, 36) else []
    assert said[again + 2 : again + 5 + len(renewed)] == [
        *renewed,
        "AT+CTSDS=12,0",
        "AT+CMGS=5001234,48",
        "800401010001\x1a",
    ]


def test_transmit_inhibit_holds_everything_and_costs_no_attempt() -> None:
    hand = Hand()
    hand.up()
    hand.except_for(GO="\r\n+CME ERROR: 41\r\n")
    hand.submit(part(1), part(2, urgency=0))
    assert len(hand.sends()) == 1
    hand.run(HOLD_S - 0.1)
    assert len(hand.sends()) == 1
    assert hand.session.held > hand.now
    hand.run(20 * HOLD_S)
    assert hand.ended == {}
    hand.answers = hand.usual
    hand.run(HOLD_S)
    hand.say("\r\n+CMGS: 0,4,1\r\n")
    assert hand.ended == {2: ""}, "danger first"


@pytest.mark.parametrize("code", [4, 5, 10, 24, 25, 32, 33, 40, 43, 44])
def test_what_nothing_mends_is_said_at_once(code: int) -> None:
    hand = Hand()
    hand.up()
    hand.except_for(GO=f"\r\n+CME ERROR: {code}\r\n")
    hand.submit(part(1))
    assert hand.ended == {1: "refused by the radio"}


def test_a_radio_that_swallows_a_message_is_got_in_step_and_told_again() -> None:
    hand = Hand()
    hand.up()
    hand.except_for(GO="")
    hand.submit(part(1))
    hand.run(9.9)
    assert len(hand.sends()) == 1
    hand.answers = hand.usual
    hand.run(2.0)
    assert len(hand.sends()) == 2
    assert hand.ended == {}


def test_parameters_are_set_before_each_switch_and_after_each_resynchronising() -> None:
    hand = Hand()
    hand.up()
    for n, service in enumerate((12, 12, 13, 12), 1):
        hand.submit(part(n, service=service))
        hand.say(f"\r\n+CMGS: 0,4,{n}\r\n")
    assert hand.said("AT+CTSDS=") == ["AT+CTSDS=12,0", "AT+CTSDS=13,0", "AT+CTSDS=12,0"]
    hand.log.clear()
    hand.except_for(GO="\r\n+CME ERROR: 37\r\n")
    hand.submit(part(9))
    hand.answers = hand.usual
    hand.run(3.0)
    assert hand.said("AT+CTSDS=") == ["AT+CTSDS=12,0"]


def test_parameters_that_are_refused_send_nothing() -> None:
    hand = Hand()
    hand.up()
    hand.except_for(AT_CTSDS="\r\n+CME ERROR: 34\r\n")
    hand.submit(part(1))
    hand.run(10.0)
    assert hand.sends() == []
    assert hand.ended == {1: "refused by the radio"}


def test_messages_from_the_air_between_a_command_and_its_result() -> None:
    hand = Hand()
    hand.up()
    hand.except_for(
        GO="\r\n+CTSDSR: 12,5001234,0,6000001,0,32\r\n\r\n+CMGS: 0\r\n\r\n+CTXG: 1\r\n"
        "82040001\r\n\r\nOK\r\n\r\n+CTSDSR: 13,5009999,0,6000001,0,16\r\n0000\r\n"
    )
    hand.submit(part(1))
    hand.say("\r\n+CTTCT: 1+CMGS: 0,4,7\r\n")
    assert [(each.calling, each.digits) for each in hand.session.heard] == [
        ("5001234", "82040001"),
        ("5009999", "0000"),
    ]
    assert hand.ended == {1: ""}


@pytest.mark.parametrize("asks", [True, False])
def test_a_dialect_that_waits_for_the_prompt_does_not_wait_for_ever(asks: bool) -> None:
    hand = Hand(DIALECTS["prompting"])
    hand.up()
    if asks:
        hand.except_for(AT_CMGS="\r\n> ")
    hand.submit(part(1))
    assert len(hand.sends()) == int(asks)
    hand.run(2.1)
    assert len(hand.sends()) == 1
    hand.say("\r\n+CMGS: 0,4,1\r\n")
    assert hand.ended == {1: ""}


def test_refused_before_its_payload_the_payload_is_not_said() -> None:
    hand = Hand(DIALECTS["prompting"])
    hand.up()
    hand.except_for(AT_CMGS="\r\n+CME ERROR: 34\r\n")
    hand.submit(part(1))
    hand.run(10.0)
    assert hand.sends() == []
    assert hand.ended == {1: "refused by the radio"}


# --------------------------------------------------------------------------- the queue


def test_danger_goes_first_whoever_came_before() -> None:
    hand = Hand()
    hand.up()
    hand.submit(part(1, urgency=3), part(2, urgency=3), part(3, urgency=2), part(4, urgency=0))
    for n in range(4):
        hand.say(f"\r\n+CMGS: 0,4,{n}\r\n")
    assert list(hand.ended) == [1, 4, 3, 2], "the first was with the radio already"


def test_a_full_queue_gives_up_the_least_urgent() -> None:
    hand = Hand(most=3)
    hand.up()
    hand.submit(*(part(n, urgency=3) for n in range(1, 6)))
    assert hand.ended == {5: "full"}
    hand.submit(part(6, urgency=0), part(7, urgency=3))
    assert hand.ended == {5: "full", 4: "full", 7: "full"}


def test_what_is_too_late_is_never_begun() -> None:
    hand = Hand()
    hand.up()
    hand.submit(part(1), part(2, until_s=hand.now + 5.0))
    hand.run(5.0)
    assert hand.ended == {2: "too late"}
    hand.say("\r\n+CMGS: 0,4,1\r\n")
    assert len(hand.sends()) == 1
    hand.except_for(GO="\r\n+CME ERROR: 42\r\n")
    hand.submit(part(3, until_s=hand.now + 1.0))
    hand.run(1.0)
    assert len(hand.sends()) == 3, "no attempt after its time"
    assert hand.ended[3] == "busy"


def test_what_nobody_waits_for_is_not_begun_nor_tried_again() -> None:
    hand = Hand()
    hand.up()
    hand.submit(part(1), part(2))
    hand.session.cancel(2, hand.now)
    hand.session.cancel(1, hand.now)
    hand.collect()
    assert hand.ended == {1: "cancelled", 2: "cancelled"}
    hand.say("\r\n+CMGS: 0,5,1\r\n")
    hand.run(30.0)
    assert len(hand.sends()) == 1


def test_what_this_radio_cannot_carry_is_not_given_to_it() -> None:
    """The least of what is configured and what it says of itself (`AT+CMGS=?`)."""
    hand = Hand(max_bits=668)
    hand.except_for(**{"AT_CMGS=?": "\r\n+CMGS: (0-16777214),(8-300)\r\n\r\nOK\r\n"})
    hand.up()
    assert hand.session.max_bits == 300
    long = part(1)
    long.digits, long.length_bits = "82" * 38, 304
    hand.submit(long)
    assert hand.ended == {1: "too long for this radio"}
    assert Hand(max_bits=668).session.max_bits == 668


@pytest.mark.parametrize("called", ["5001234\r\nATZ", "", "12,34", "5001234;"])
def test_what_is_no_identity_never_reaches_the_line(called: str) -> None:
    hand = Hand()
    hand.up()
    bad = part(1)
    bad.called = called
    hand.submit(bad)
    assert hand.ended == {1: "not to be sent"}
    assert hand.log == []


# --------------------------------------------------------------------------- whatever happens


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("air", "habits"), [(ROUGH, SEPURA_LIKE), (SLOW, MOTOROLA_LIKE)])
def test_in_bad_air_one_is_in_flight_and_what_counts_as_sent_was(
    seed: int, air: Air, habits: Habits
) -> None:
    """40 messages: none overlaps another, each ends once, and most arrive."""
    rig = Rig(habits, air=air, seed=seed)
    rig.up()
    rig.submit(*(part(n, urgency=n % 4) for n in range(1, 41)))
    rig.run(900.0, lambda: len(rig.ended) == 40)
    assert sorted(rig.ended) == list(range(1, 41))
    assert rig.pei.counts["overlapping"] == 0
    sent = sum(not fault for fault in rig.ended.values())
    assert sent >= 25
    assert rig.session.ready


class Chaos:
    """A radio that answers each command at random, and keeps count of what it has said."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.constant = seed % 2 == 0
        """It calls every message 0."""
        self.said_sent: set[int] = set()
        self.with_it: tuple[int, float] | None = None
        """The message that the session must take to be under way, and since when."""
        self.due: list[tuple[float, bytes, int | None]] = []
        self.n = 0
        self._waiting = False

    def hear(self, said: str, now: float) -> None:
        chance = self.chance
        if said.endswith("\x1a"):
            assert self.with_it is None or now - self.with_it[1] >= 10.0, "two in flight"
            self._message(int(said[8:12], 16), now)
        elif said.startswith("AT+CMGS=") and not said.endswith("?"):
            return
        elif chance.random() < 0.9:
            self._say(now, b"\r\nOK\r\n")
        elif chance.random() < 0.8:
            self._say(now, b"\r\n+CME ERROR: %d\r\n" % chance.choice((3, 4, 35, 38, 39, 42)))
        if chance.random() < 0.1:
            self._say(now, chance.choice((b"\x00\xff", b"\r\n+CREG: 1\r\n", b"\r\n+CTOM: 0\r\n")))
        if chance.random() < 0.1:
            self._say(now, b"\r\n+CTSDSR: 13,5001234,0,6000001,0,16\r\n8002\r\n")

    def _message(self, token: int, now: float) -> None:
        chance = self.chance
        self.with_it = (token, now)
        fate = chance.random()
        if fate < 0.15:
            code = chance.choice((0, 3, 20, 30, 31, 34, 35, 36, 37, 41, 42))
            self._say(now, b"\r\n+CME ERROR: %d\r\n" % code, done=token)
            return
        if fate < 0.2:
            return  # swallowed
        self.n += 1
        instance = 0 if self.constant else self.n % 256
        self._say(now, b"\r\n+CMGS: %d\r\n\r\nOK\r\n" % instance)
        if fate < 0.3:
            return  # never spoken of again
        late_s = chance.choice((0.1, 1.0, 5.0, 14.0, 20.0, 30.0))
        status = 4 if chance.random() < 0.8 else 5
        word = b"\r\n+CMGS: %d,%d,%d\r\n" % (instance, status, self.n % 256)
        for _ in range(chance.choice((1, 1, 2))):
            self.due.append((now + late_s, word, token if status == 4 else -token))

    def _say(self, now: float, data: bytes, done: int | None = None) -> None:
        self.due.append((now + 0.01, data, done if done is None else -done))

    def speak(self, now: float) -> bytes:
        out = b""
        for each in sorted(self.due, key=lambda due: due[0]):
            if each[0] <= now:
                self.due.remove(each)
                out += each[1]
                if each[2] is not None:
                    if each[2] > 0:
                        self.said_sent.add(each[2])
                    if self.with_it is not None and abs(each[2]) == self.with_it[0]:
                        self.with_it = None
        return out


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_radio_does_nothing_counts_as_sent_that_was_not(seed: int) -> None:
    """For 20 minutes; one in flight, each message ends once, and there is always a next moment."""
    radio, chance = Chaos(seed), random.Random(-seed)
    now, token, ended = 1000.0, 0, dict[int, str]()
    session = PeiSession(DIALECTS["plain"], services=("1,3,130", "1,2,20"))
    session.start(now)
    while now < 2200.0:
        for piece in re.findall(r"[^\r\n\x1a]*(?:\r\n|\x1a)", session.take().decode()):
            if said := piece.strip("\x1b\r\n"):
                radio.hear(said, now)
        for each in session.ended:
            assert each.token not in ended
            ended[each.token] = each.fault
            if not each.fault:
                assert each.token in radio.said_sent, "nobody said that it was sent"
        session.ended.clear()
        session.heard.clear()
        if session.stage is Stage.OVER:
            assert sorted(ended) == list(range(1, token + 1)), "what was given up has ended"
            session = PeiSession(DIALECTS["plain"], services=("1,3,130", "1,2,20"))
            session.start(now)
            radio.with_it = None
            radio.due.clear()
        if chance.random() < 0.006:
            token += 1
            session.submit(part(token, urgency=chance.randrange(4), until_s=now + 60.0), now)
        if chance.random() < 0.01 and token:
            session.cancel(chance.randint(1, token), now)
        assert session.next_at_s < now + 400.0
        now += 0.1
        session.feed(radio.speak(now), now)
    session.close("link down")
    ended |= {each.token: each.fault for each in session.ended}
    assert sorted(ended) == list(range(1, token + 1))
    assert sum(not fault for fault in ended.values()) > token // 6


@settings(max_examples=60, deadline=None)
@given(
    said=st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [
                    *(
                        b"\r\nOK\r\n",
                        b"\r\n+CMGS: 0\r\n",
                        b"\r\n+CMGS: 0,4,1\r\n",
                        b"> ",
                        b"\r\nERROR\r\n",
                    ),
                    *(b"\r\n+CME ERROR: %d\r\n" % n for n in (3, 20, 35, 38, 41, 42)),
                    *(b"\r\n+CREG: 2\r\n", b"\r\n+CMGS: 0,5,1\r\n"),
                ]
            ),
        ),
        max_size=60,
    ),
    steps=st.lists(st.floats(0.0, 30.0), max_size=60),
)
def test_whatever_bytes_come_it_goes_on_and_ends_each_once(
    said: list[bytes], steps: list[float]
) -> None:
    """Nothing raises, nothing stands still, and at the end nothing was forgotten."""
    session, now = PeiSession(DIALECTS["plain"]), 1000.0
    session.start(now)
    for n, (data, step) in enumerate(zip(said, [*steps, *[0.1] * len(said)], strict=False), 1):
        session.submit(part(n), now)
        now += step
        session.feed(data, now)
        assert session.next_at_s <= now + 300.0
        assert session.take().count(b"\x1a") <= 8
    session.close("link down")
    assert sorted(each.token for each in session.ended) == list(range(1, len(said) + 1))
