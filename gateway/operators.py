"""Who may act over the API, as the people file has them now (pure).

An operator is asked for anew with each request: who was revoked, or whose entry changed in any way,
is nobody until they have logged in again.
"""

from __future__ import annotations

import hashlib

import msgspec

from gateway.messages import Actor
from gateway.rulebook import Operator, People


class Operators:
    """One reading of the people file; made anew with each reload."""

    def __init__(self, people: People) -> None:
        self._by_id = {each.id: each for each in people.operators if not each.revoked}
        self._by_subject = {each.subject: each for each in self._by_id.values() if each.subject}
        self._stands = {id_: stand(each) for id_, each in self._by_id.items()}

    def known(self, id_: str) -> Operator | None:
        return self._by_id.get(id_)

    def stand(self, id_: str) -> str:
        """A fingerprint of their entry; empty for nobody."""
        return self._stands.get(id_, "")

    def of_subject(self, subject: str) -> Operator | None:
        """Whom the identity provider calls this."""
        return self._by_subject.get(subject)


def actor_of(operator: Operator, roles: frozenset[str]) -> Actor:
    """Who acts, in those of their roles that they logged in with."""
    return Actor(
        id=operator.id,
        name=operator.name,
        roles=roles & frozenset(operator.roles),
        agency=operator.agency,
        areas=frozenset(operator.areas),
    )


def stand(operator: Operator) -> str:
    """A fingerprint of everything the people file says of them, password and all."""
    return hashlib.sha256(msgspec.json.encode(operator)).hexdigest()
