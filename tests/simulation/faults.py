"""How bad a simulated world is: which faults, how often, and how small its limits are."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from gateway.settings import ChecksSection, Config, Settings, load
from tests.gateway.house import UNLIMITED

POINTS = (
    "P0 on the way",
    "P1 before the question's commit",
    "P2 after the question's commit",
    "P3 after the receipt",
    "P4 at the question",
    "P5 at the reply",
    "P6 before the answer is sent",
    "P7 after the answer is sent",
    "P8 before an acknowledgement's commit",
    "P9 at the console",
    "P10 in a commit",
)
"""Where a fault may fall (reliability-security, 3.1). P11 (a head is signed) and P12 (a purge) are
the ledger's own: tests/adapters/ledger and tests/system."""

STRIKES = ("kill", "pause", "link_cut", "session_lost", "wall_step", "reload")
"""What may befall the process at any point: each of them must meet each of POINTS."""

DISK_EVENTS = (
    "started",
    "opened",
    "asked",
    "answered",
    "refused",
    "disclosed",
    "delivered",
    "read",
    "stale",
    "cancelled",
    "duplicate",
    "late_answer",
    "emergency",
    "alarm",
)
"""What is being written: `disk_full` and `disk_stall` must meet each of them."""

AIR_UP = ("CheckRequest", "DeliveryAck", "StatusReport", "CancelRequest", "LocationFix")
AIR_DOWN = ("Receipt", "Result", "Notice")
"""What is on the air: `link_loss` must meet each of it, `reorder` and `held_up` each of AIR_UP."""

AT_THE_PNC = ("pnc_down", "pnc_hang", "pnc_late", "pnc_ramp", "pnc_swapped", "pnc_garbled")
"""What must meet a first attempt and a later one."""


PUT_AWAY = "deadly @ put away"
"""The question that ended the process is not tried any more."""


class Faults(msgspec.Struct, kw_only=True):
    """Chances per happening. All zero is a calm day."""

    pnc_down: float = 0.0
    pnc_hang: float = 0.0
    pnc_late: float = 0.0
    """The reply comes after the deadline, while it is still listened for."""
    pnc_ramp: float = 0.0
    """From here on for a while all replies take 3 to 20 s (P02)."""
    pnc_echo: float = 0.0
    pnc_swapped: float = 0.0
    """The reply to another question, whole and well-formed (P05)."""
    pnc_double: float = 0.0
    """The reply to an earlier attempt at this very question, once more (P06)."""
    pnc_second: float = 0.0
    """Something comes on the question's connection after its reply (P06)."""
    pnc_garbled: float = 0.0
    pnc_refused: float = 0.0
    pnc_unknown: float = 0.0
    """A warning code that no table knows (P08)."""
    pnc_poison: float = 0.0
    """An answer that breaks our own code (M13)."""
    pnc_slow_s: float = 0.1
    link_loss: float = 0.0
    link_cut: float = 0.0
    session_lost: float = 0.0
    """The broker comes back without what it held (M01)."""
    retained: float = 0.0
    """The broker keeps a question and brings it again at each connection (M08)."""
    duplicate: float = 0.0
    reorder: float = 0.0
    """Overtaken on the way by what was sent up to 3 s later (M05)."""
    early_cancel: float = 0.0
    """A question that its cancellation overtook (M05)."""
    held_up: float = 0.0
    """On the way for 10 to 60 s (M14)."""
    poison: float = 0.0
    """A question that breaks our own code (M13)."""
    deadly: float = 0.0
    """A question that ends the process whenever it is about to be written (M13)."""
    flood: float = 0.0
    """A terminal that asks 20 times at once (M11)."""
    bad_fix: float = 0.0
    """Void, null, from the future, of the wrong year, elsewhere, older than the last (S11)."""
    clock_skew: float = 0.0
    """Per terminal: its clock is off by up to 10 min (H09)."""
    disk_full: float = 0.0
    disk_stall: float = 0.0
    disk_slow_s: float = 0.002
    console_cut: float = 0.0
    """A console's connection breaks while a batch is on its way (W09)."""
    crash: float = 0.0
    kill: float = 0.0
    """Per passage of one of POINTS."""
    pause: float = 0.0
    """The whole process stands still for 1 to 40 s (H03)."""
    wall_step: float = 0.0
    reload: float = 0.0
    """Another holder, a narrower policy, a terminal taken away (H11)."""

    @property
    def spares_the_air(self) -> bool:
        """Whether what is said is heard at once: then the officer's waiting can be judged."""
        return not any(getattr(self, name) for name in _OF_THE_AIR)


_OF_THE_AIR = (
    "link_loss",
    "link_cut",
    "session_lost",
    "reorder",
    "held_up",
    "crash",
    "kill",
    "deadly",
    "pause",
    "reload",
)
"""A wall clock that is set is not among them: nobody may wait longer for it (H08)."""
MOST = {
    "pnc_down": 0.4,
    "pnc_hang": 0.3,
    "pnc_late": 0.2,
    "pnc_ramp": 0.05,
    "pnc_echo": 0.2,
    "pnc_swapped": 0.2,
    "pnc_double": 0.3,
    "pnc_second": 0.2,
    "pnc_garbled": 0.2,
    "pnc_refused": 0.1,
    "pnc_unknown": 0.2,
    "pnc_poison": 0.1,
    "link_loss": 0.3,
    "link_cut": 0.3,
    "session_lost": 0.2,
    "retained": 0.1,
    "duplicate": 0.5,
    "reorder": 0.3,
    "early_cancel": 0.1,
    "held_up": 0.1,
    "poison": 0.05,
    "deadly": 0.01,
    "flood": 0.02,
    "bad_fix": 0.5,
    "clock_skew": 0.7,
    "disk_full": 0.3,
    "disk_stall": 0.12,
    "console_cut": 0.2,
    "crash": 0.4,
    "kill": 0.02,
    "pause": 0.2,
    "wall_step": 0.1,
    "reload": 0.3,
}


def swarm(chance: random.Random) -> Faults:
    """A random half of the fault kinds at random rates; one world in four spares the air."""
    chosen = {
        name: chance.uniform(most / 20, most)
        for name, most in MOST.items()
        if chance.random() < 0.5
    }
    if chance.random() < 0.25:
        for name in _OF_THE_AIR:
            chosen.pop(name, None)
    return Faults(
        pnc_slow_s=chance.choice([0.05, 1.0, 6.0]),
        disk_slow_s=chance.choice([0.001, 0.05, 0.3]),
        **chosen,
    )


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a world is: bursts of traffic and mischief, and quiet stretches between them, in
    which the faults are as likely per happening, only less happens."""

    chaos_s: float
    bursts: tuple[tuple[float, float], ...]
    """From, until: seconds."""
    busy_s: float = 1.0
    quiet_s: float = 100.0
    """Between two questions, on average."""

    def every_s(self, now_s: float) -> float:
        return self.busy_s if self.busy(now_s) else self.quiet_s

    def busy(self, now_s: float) -> bool:
        return any(begin_s <= now_s < end_s for begin_s, end_s in self.bursts)

    def next_change_s(self, now_s: float) -> float:
        """When it next becomes busy or quiet."""
        edges = [edge for burst in self.bursts for edge in burst if edge > now_s]
        return min([*edges, self.chaos_s])


def pace(chance: random.Random, hours: float) -> Pace:
    """Bursts of 8 to 24 s, 7 to 17 min apart; the first at once."""
    chaos_s, at_s = hours * 3600, 0.0
    bursts = []
    while at_s < chaos_s:
        end_s = min(chaos_s, at_s + chance.uniform(8, 24))
        bursts.append((at_s, end_s))
        at_s = end_s + chance.uniform(420, 1020)
    return Pace(chaos_s=chaos_s, bursts=tuple(bursts))


def all_busy(seconds: float) -> Pace:
    """One burst, for what must be found in little time."""
    return Pace(chaos_s=seconds, bursts=((0.0, seconds),))


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the feed, small ones."""

    keep_events: int = 10_000
    keep_s: float = 120.0


def knobs(chance: random.Random) -> Knobs:
    return Knobs(keep_events=chance.choice([20, 200, 2000]), keep_s=chance.choice([10.0, 120.0]))


_BASE = load(Path(__file__).parents[2] / "config" / "gateway.toml")


def small_config(chance: random.Random) -> Config:
    """The sample fleet and policy with small random limits: small knobs find more bugs."""
    checks = ChecksSection(
        deadline_s=chance.choice([5.0, 15.0]),
        concurrency=chance.randint(1, 4),
        queue=chance.randint(1, 8),
        resend_s=chance.choice([1.0, 10.0]),
        stale_s=120.0,
        breaker_failures=chance.randint(2, 6),
        settled_memory=chance.randint(1, 50),
        per_terminal_open=chance.randint(1, 4),
    )
    settings = Settings(
        gateway=_BASE.settings.gateway,
        checks=checks,
        tracking=_BASE.settings.tracking,
        # What a broker kept for us comes at once, and the oracles know of no refusal by rate.
        limits=UNLIMITED,
    )
    police = tuple(each for each in _BASE.fleet.terminals if each.agency == "police")
    fleet = msgspec.structs.replace(_BASE.fleet, terminals=police)
    # One draw for both, so that a seed is the same world as ever.
    draw = chance.random()
    prompts, holds = draw < 0.25, 0.2 <= draw < 0.35
    rules = tuple(
        msgspec.structs.replace(
            rule,
            prompt=prompts and rule.role == "constable",
            hold=holds and rule.agency == "police",
        )
        for rule in _BASE.policy.rules
    )
    policy = msgspec.structs.replace(_BASE.policy, rules=rules)
    return msgspec.structs.replace(_BASE, settings=settings, fleet=fleet, policy=policy)
