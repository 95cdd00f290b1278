"""Who approved these bytes of a policy: two different persons, or nobody (pure).

The policy that is in force says who may approve the next one, so that no edition lets itself in. A
seal is a file beside the policy, a line for each approver: name, blank, signature (Ed25519,
base64) over `PREFIX` and the policy file as it stands. The first policy that a gateway ever takes
is taken at its own word, on record.
"""

from __future__ import annotations

import hashlib

from gateway.messages import Value
from gateway.ports import Seals

PREFIX = b"radio-gateway policy\0"
NEEDED = 2
SEAL = ".seal"
"""policy.toml.seal"""
MOST = 64
"""Lines of a seal that are looked at."""

FIRST, SEALED, UNSEALED, SAME = "policy.first", "policy.sealed", "policy.unsealed", "policy.same"


class InForce(Value, frozen=True, kw_only=True):
    """What of the policy in force is kept: its hash, and who may approve the next."""

    version: str
    hash: str
    approvers: dict[str, str]


class Verdict(Value, frozen=True, kw_only=True):
    """operation: one of the four above. by: who approved it. finding: why it is not taken, empty
    when it is."""

    operation: str
    by: tuple[str, ...] = ()
    finding: str = ""


def hash_of(policy: bytes) -> str:
    return hashlib.sha256(PREFIX + policy).hexdigest()


def approved_by(policy: bytes, seal: str, approvers: dict[str, str], seals: Seals) -> list[str]:
    """Names whose signature is good; one key is one person, however many names it has."""
    found: dict[str, str] = {}
    for line in seal.splitlines()[:MOST]:
        name, _, signature = line.strip().partition(" ")
        key = approvers.get(name)
        if (
            key is not None
            and key not in found
            and name not in found.values()
            and seals.valid(key, signature.strip(), PREFIX + policy)
        ):
            found[key] = name
    return list(found.values())


def judge(
    policy: bytes,
    seal: str,
    own: dict[str, str],
    in_force: InForce | None,
    seals: Seals,
    *,
    production: bool,
) -> Verdict:
    """Whether this policy may take over. own: the approvers that it names itself."""
    if in_force is not None and in_force.hash == hash_of(policy):
        return Verdict(operation=SAME)
    approvers = own if in_force is None else in_force.approvers
    by = tuple(approved_by(policy, seal, approvers, seals))
    if len(by) >= NEEDED:
        return Verdict(operation=SEALED if in_force is not None else FIRST, by=by)
    if production:
        whose = "in force" if in_force is not None else "it names itself"
        finding = f"approved by {len(by)} of the approvers {whose}; {NEEDED} must seal it"
        return Verdict(operation=UNSEALED, by=by, finding=finding)
    return Verdict(operation=UNSEALED, by=by)
