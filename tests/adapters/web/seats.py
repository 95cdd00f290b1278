"""Operators for tests of the web server, and seats at it: headers of an open session."""

from __future__ import annotations

from typing import Any

import aiohttp

from adapters.observers.prometheus import PrometheusMeter
from adapters.web import LogIns, WebServer
from adapters.web.sessions import csrf_of
from gateway.messages import Secret
from gateway.operators import Operators
from gateway.ports import Clock, IdentityProvider
from gateway.rulebook import Operator, People
from gateway.settings import AuthSection, HttpSection
from tests.adapters.web.board import FakeBoard
from tests.fake_ledger import FakeLedger
from tests.fakes import FakeFactors, FakeJournal, FakeKeyed

PASSWORD = "correct horse"
FACTORS = FakeFactors()
STORED = FACTORS.made(Secret(PASSWORD))
ROLES = ("operator", "supervisor", "auditor", "ops")
OPERATORS = (
    *(Operator(id=role, roles=(role,), password=STORED, subject=f"sub-{role}") for role in ROLES),
    Operator(id="op2", name="Second", roles=("operator",), password=STORED),
    Operator(id="gone", roles=("supervisor",), password=STORED, revoked=True),
)


class Rules:
    """What a reload would change."""

    def __init__(self, *operators: Operator) -> None:
        self.people(*(operators or OPERATORS))

    def people(self, *operators: Operator) -> None:
        self.operators = Operators(People(version="t", operators=operators))


def log_ins(
    clock: Clock,
    *,
    rules: Rules | None = None,
    ledger: FakeLedger | None = None,
    provider: IdentityProvider | None = None,
    meter: PrometheusMeter | None = None,
    **auth: Any,
) -> LogIns:
    rules = rules or Rules()
    return LogIns(
        AuthSection(**{"sessions_each": 100, **auth}),
        operators=lambda: rules.operators,
        factors=FakeFactors(),
        keyed=FakeKeyed(),
        ledger=ledger or FakeLedger(),
        clock=clock,
        meter=meter or web_meter(),
        journal=FakeJournal(),
        provider=provider,
    )


def web_meter() -> PrometheusMeter:
    return PrometheusMeter(links={"south": "serial"}, areas=("S",), agencies=("po",), strict=True)


def web_server(
    board: FakeBoard, *, ins: LogIns | None = None, http: HttpSection | None = None, **more: Any
) -> WebServer:
    meter = more.pop("meter", None) or web_meter()
    return WebServer(
        http or HttpSection(port=0, per_session_per_s=10_000.0),
        board,
        meter=meter,
        clock=board.clock,
        log_ins=ins or log_ins(board.clock, meter=meter),
        **more,
    )


def token(server: WebServer, id_: str = "operator") -> str:
    """Of a session as a log-in opens it."""
    ins = server._log_ins
    operator = ins.operators().known(id_)
    assert operator is not None
    stand = ins.operators().stand(id_)
    now_s = server._clock.monotonic_s()
    return ins.sessions.open(id_, stand, frozenset(operator.roles), now_s)[0]


def headers(token_: str) -> dict[str, str]:
    """What a browser, and our page's script, send with each change."""
    return {"Cookie": f"__Host-gw={token_}", "X-CSRF-Token": csrf_of(token_)}


def as_seen(server: WebServer, request: bytes, id_: str = "operator") -> bytes:
    """A raw request of somebody who is logged in; as it is when its head is not whole."""
    both = "".join(f"{name}: {value}\r\n" for name, value in headers(token(server, id_)).items())
    first, mark, rest = request.partition(b"\r\n")
    return b"".join((first, mark, both.encode(), rest)) if b"\r\n\r\n" in request else request


def seat(server: WebServer, url: str, id_: str = "operator", **more: Any) -> aiohttp.ClientSession:
    """A client that is logged in as this operator."""
    timeout = aiohttp.ClientTimeout(total=10)
    return aiohttp.ClientSession(url, timeout=timeout, headers=headers(token(server, id_)), **more)
