"""How bad a simulated world is: which faults, how often, and how small its limits are."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from gateway.settings import ChecksSection, Config, Settings, load
from tests.gateway.house import UNLIMITED

POINTS = (
    "before commit",
    "after commit",
    "at the question",
    "at the reply",
    "before send",
    "after send",
)
"""Where a kill may fall (reliability-security, 3.1): P1, P2, P4, P5, P6, P7."""


class Faults(msgspec.Struct, kw_only=True):
    """Chances per happening. All zero is a calm day."""

    pnc_down: float = 0.0
    pnc_hang: float = 0.0
    pnc_echo: float = 0.0
    pnc_garbled: float = 0.0
    pnc_refused: float = 0.0
    pnc_slow_s: float = 0.1
    link_loss: float = 0.0
    link_cut: float = 0.0
    duplicate: float = 0.0
    disk_full: float = 0.0
    disk_stall: float = 0.0
    disk_slow_s: float = 0.002
    crash: float = 0.0
    kill: float = 0.0
    """Per passage of one of POINTS."""
    wall_step: float = 0.0
    reload: float = 0.0
    """Another holder, a narrower policy, a terminal taken away."""

    @property
    def spares_the_air(self) -> bool:
        """Whether what is said is heard at once: then the officer's waiting can be judged."""
        return not (
            self.link_loss
            or self.link_cut
            or self.crash
            or self.kill
            or self.wall_step
            or self.reload
        )


_MOST = {
    "pnc_down": 0.4,
    "pnc_hang": 0.3,
    "pnc_echo": 0.2,
    "pnc_garbled": 0.2,
    "pnc_refused": 0.1,
    "link_loss": 0.3,
    "link_cut": 0.3,
    "duplicate": 0.5,
    "disk_full": 0.3,
    "disk_stall": 0.05,
    "crash": 0.4,
    "kill": 0.02,
    "wall_step": 0.1,
    "reload": 0.3,
}


def swarm(chance: random.Random) -> Faults:
    """A random half of the fault kinds at random rates; one world in four spares the air."""
    chosen = {
        name: chance.uniform(most / 20, most)
        for name, most in _MOST.items()
        if chance.random() < 0.5
    }
    if chance.random() < 0.25:
        for name in ("link_loss", "link_cut", "crash", "kill", "wall_step", "reload"):
            chosen.pop(name, None)
    return Faults(
        pnc_slow_s=chance.choice([0.05, 1.0, 6.0]),
        disk_slow_s=chance.choice([0.001, 0.05, 0.3]),
        **chosen,
    )


def small_config(chance: random.Random) -> Config:
    """The sample fleet and policy with small random limits: small knobs find more bugs."""
    base = load(Path(__file__).parents[2] / "config" / "gateway.toml")
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
        gateway=base.settings.gateway,
        checks=checks,
        tracking=base.settings.tracking,
        # What a broker kept for us comes at once, and the oracles know of no refusal by rate.
        limits=UNLIMITED,
    )
    police = tuple(each for each in base.fleet.terminals if each.agency == "police")
    fleet = msgspec.structs.replace(base.fleet, terminals=police)
    prompts = chance.random() < 0.25
    rules = tuple(
        msgspec.structs.replace(rule, prompt=prompts and rule.role == "constable")
        for rule in base.policy.rules
    )
    policy = msgspec.structs.replace(base.policy, rules=rules)
    return msgspec.structs.replace(base, settings=settings, fleet=fleet, policy=policy)
