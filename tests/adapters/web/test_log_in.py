"""Who gets in, who may what, and when it is over: over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from adapters.oidc import Provider
from adapters.web import WebServer, sessions
from adapters.web.routes import ANYBODY, EVERYBODY, HOST, NETWORK, ROUTES, Route
from gateway.messages import Secret
from gateway.settings import HttpSection
from tests.adapters.web.board import FakeBoard, alarm, link, opened
from tests.adapters.web.seats import (
    OPERATORS,
    PASSWORD,
    ROLES,
    STORED,
    Rules,
    headers,
    log_ins,
    seat,
    token,
    web_meter,
    web_server,
)
from tests.fake_ledger import Disk, FakeLedger
from tests.fakes import FakeClock
from tests.services.scripted_idp import CLIENT, SECRET, ScriptedIdp

HOST_TOKEN, METRICS_TOKEN = Secret("host-token"), Secret("metrics-token")
KEY = {"Idempotency-Key": "k1"}


class Site:
    """A server with everything about who may log in within reach."""

    def __init__(self, **auth: Any) -> None:
        self.clock = FakeClock()
        self.board = FakeBoard(self.clock)
        self.board.alarms = {"A1": alarm()}
        self.board.proofs["4F2A-91KQ"] = b"{}"
        self.rules = Rules()
        self.disk = Disk()
        self.ledger = FakeLedger(self.disk)
        self.meter = web_meter()
        self.ins = log_ins(
            self.clock, rules=self.rules, ledger=self.ledger, meter=self.meter, **auth
        )
        self.server: WebServer
        self.url = ""

    @property
    def said(self) -> list[str]:
        """What is on record of sessions, without their names."""
        return [
            f"{record.operator or '-'}: {record.detail.partition(' (')[0]}"
            for record in self.disk.records
            if record.event == "session"
        ]

    def changed(self) -> tuple[object, ...]:
        """What an act could have changed."""
        return tuple(self.board.acts), tuple(self.said), len(self.ins.sessions.all())

    async def log_in(
        self, id_: str, password: str = PASSWORD, **more: str
    ) -> tuple[int, dict[str, Any], str]:
        """Status, body, and the cookie that was given."""
        body = {"id": id_, "password": password}
        async with (
            aiohttp.ClientSession(self.url) as http,
            http.post("/api/v1/login", json=body, headers=more) as answer,
        ):
            return answer.status, await answer.json(content_type=None), cookie(answer)


def cookie(answer: aiohttp.ClientResponse, name: str = "__Host-gw") -> str:
    given = [each for each in answer.headers.getall("Set-Cookie", ()) if each.startswith(name)]
    return given[0] if given else ""


def value(given: str) -> str:
    return given.partition("=")[2].partition(";")[0].strip('"')


@asynccontextmanager
async def site(*, http: dict[str, Any] | None = None, **auth: Any) -> AsyncIterator[Site]:
    here = Site(**auth)
    here.server = web_server(
        here.board,
        ins=here.ins,
        http=HttpSection(**{"port": 0, "per_session_per_s": 10_000.0, **(http or {})}),
        meter=here.meter,
        host_token=HOST_TOKEN,
        metrics_token=METRICS_TOKEN,
    )
    here.url = await here.server.start()
    try:
        yield here
    finally:
        await here.server.stop()


# --------------------------------------------------------------------------- the routes


def place(route: Route) -> str:
    """A path that this route takes."""
    return (
        route.path.replace("{id}", "A1")
        .replace("{name}", "none")
        .replace("{ref}", "NONE")
        .replace("{receipt}", "4F2A-91KQ?purpose=lawfulness")
    )


async def ask(
    http: aiohttp.ClientSession, route: Route, url: str, more: dict[str, str]
) -> tuple[int, bytes]:
    """With a body that says nothing; of an endless answer only that it came."""
    body = b"{}" if route.method == "POST" else None
    kind = {"Content-Type": "application/json", **KEY} if body else {}
    async with http.request(
        route.method,
        url.rstrip("/") + place(route),
        data=body,
        headers={**kind, **more},
        allow_redirects=False,
    ) as answer:
        endless = answer.content_type == "text/event-stream"
        return answer.status, b"" if endless else await answer.read()


async def test_there_is_no_route_beside_the_table() -> None:
    """The application has what the table has, method by method; HEAD goes with GET."""
    async with site() as here:
        served = {
            (route.method, route.resource.canonical)
            for route in here.server.application().router.routes()
            if route.method != "HEAD" and route.resource is not None
        }
    assert served == {(route.method, route.path) for route in ROUTES}
    assert len(served) == len(ROUTES)


def test_what_is_open_is_the_log_in_and_a_sign_of_life() -> None:
    """Nobody opens a door by adding a route; whatever changes anything is marked as such."""
    assert {route.path for route in ROUTES if route.roles == ANYBODY} == {
        *("/login", "/login.js", "/page.css", "/login/provider", "/login/callback"),
        *("/api/v1/login", "/healthz"),
    }
    assert {route.path for route in ROUTES if route.roles == NETWORK} == {"/metrics", "/readyz"}
    for route in ROUTES:
        assert route.roles, route.path
        assert route.change == (route.method != "GET"), route.path
        assert route.roles in (ANYBODY, NETWORK) or route.roles <= EVERYBODY | {HOST}, route.path


WANTED = {
    "/api/v1/sessions": {"supervisor"},
    "/api/v1/sessions/{name}/end": {"supervisor"},
    "/api/v1/checks/{ref}": {"operator", "supervisor", "auditor"},
    **{
        f"/api/v1/alarms/{{id}}/{verb}": {"operator", "supervisor"}
        for verb in ("ack", "close", "shelve", "unshelve", "mistake")
    },
    "/api/v1/units/{id}/message": {"operator", "supervisor"},
    "/api/v1/units/{id}/locate": {"operator", "supervisor"},
    "/api/v1/checks": {"operator", "supervisor"},
    "/api/v1/checks/{ref}/answer": {"operator", "supervisor"},
    "/api/v1/releases": {"operator", "supervisor"},
    "/api/v1/releases/{id}": {"operator", "supervisor"},
    "/api/v1/challenges": {"supervisor"},
    "/api/v1/challenges/{id}/review": {"supervisor"},
    "/api/v1/audit/receipts/{receipt}": {"auditor"},
    "/api/v1/export": {"auditor", "host"},
}
"""Routes that not everybody who is logged in may use. An auditor alters nothing."""


def test_who_may_what_is_meant() -> None:
    """The roles of each route once more, by hand."""
    for route in ROUTES:
        if route.roles not in (ANYBODY, NETWORK):
            assert route.roles == WANTED.get(route.path, set(ROLES)), route.path


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_over_every_route(role: str) -> None:
    """What the table allows is answered, all else is 403, and then nothing was done."""
    async with site() as here:
        for route in ROUTES:
            if route.roles == ANYBODY or route.handler == "log_out":
                continue
            before = here.changed()
            # Each with a session of its own, so that none ends another's.
            seen = headers(token(here.server, role))
            before = here.changed()
            async with aiohttp.ClientSession() as http:
                status, _ = await ask(http, route, here.url, seen)
            if role in route.roles or route.roles == NETWORK:
                assert status not in (401, 403), (role, route.path, status)
            else:
                assert status == 403, (role, route.path, status)
                assert here.changed() == before


def foreign(here: Site) -> dict[str, dict[str, str]]:
    """Headers of those who are nobody, by what is wrong with them."""
    good, other = token(here.server), token(here.server, "supervisor")
    cookie_, csrf = headers(good)["Cookie"], headers(good)["X-CSRF-Token"]
    ended = token(here.server, "supervisor")
    here.ins.sessions.end(sessions.key_of(ended))
    return {
        "nothing": {},
        "a token made up": headers("x" * 43),
        "the hash for the token": headers(sessions.key_of(good)),
        "an ended session": headers(ended),
        "no cookie": {"X-CSRF-Token": csrf},
        "the host's token to a browser's route": {"Authorization": "Bearer metrics-token"},
        "no CSRF token": {"Cookie": cookie_},
        "another's CSRF token": {"Cookie": cookie_, "X-CSRF-Token": sessions.csrf_of(other)},
        "a CSRF token in no script": {"Cookie": cookie_, "X-CSRF-Token": csrf + "é"},
        "another origin": {**headers(good), "Origin": "http://evil.example"},
        "another scheme": {
            **headers(good),
            "Origin": here.url.rstrip("/").replace("http", "https"),
        },
        "another site's page": {**headers(good), "Sec-Fetch-Site": "cross-site"},
        "a page of this site": {**headers(good), "Sec-Fetch-Site": "same-site"},
    }


async def test_nobody_else_changes_anything() -> None:
    """Every changing route with everything that a stranger, a thief or another site could bring:
    401 or 403, and nothing happened."""
    async with site() as here:
        wrongs = foreign(here)
        async with aiohttp.ClientSession() as http:
            for route in ROUTES:
                if not route.change or route.roles == ANYBODY:
                    continue
                for wrong, brought in wrongs.items():
                    before = here.changed()
                    status, _ = await ask(http, route, here.url, brought)
                    assert status in (401, 403), (route.path, wrong, status)
                    assert here.changed() == before, (route.path, wrong)
            # The truth passes, so that it is the wrong that was refused.
            ack = next(route for route in ROUTES if route.handler == "acknowledge")
            assert (await ask(http, ack, here.url, headers(token(here.server))))[0] == 200


async def test_nobody_else_reads_anything() -> None:
    """Every route but the open ones, without a session or with one that is over; nor does another
    site's page with the cookie of ours."""
    async with site() as here:
        here.board.links = [link()]
        wrongs = foreign(here)
        for wrong in ("nothing", "a token made up", "an ended session", "another site's page"):
            async with aiohttp.ClientSession() as http:
                for route in ROUTES:
                    if route.change or route.roles in (ANYBODY, NETWORK):
                        continue
                    if route.page and wrong == "another site's page":
                        continue  # a link from elsewhere to our page is a link
                    status, said = await ask(http, route, here.url, wrongs[wrong])
                    assert status == (303 if route.page else status)
                    assert status in (303, 401, 403), (route.path, wrong, status)
                    assert b"serial-south" not in said


# --------------------------------------------------------------------------- log-in


async def test_a_log_in_gives_a_cookie_for_this_host_alone() -> None:
    async with site() as here:
        status, said, given = await here.log_in("operator")
        assert (status, said["id"], said["roles"]) == (200, "operator", ["operator"])
        attributes = {each.strip().lower() for each in given.split(";")[1:]}
        assert attributes == {"path=/", "secure", "httponly", "samesite=strict"}
        assert here.said == ["operator: log-in local"]
        seen = headers(value(given))
        assert seen["X-CSRF-Token"] == said["csrf"]
        async with (
            aiohttp.ClientSession(here.url, headers=seen) as http,
            http.get("/api/v1/me") as answer,
        ):
            me = await answer.json()
        assert (me["id"], me["csrf"]) == ("operator", said["csrf"])
        assert value(given) not in repr(here.disk.kept), "kept by its hash alone"
        assert value(given) not in repr(here.disk.records)


async def test_a_log_in_is_new_and_leaves_the_one_before() -> None:
    """Whoever knew the cookie before knows nothing after (session fixation)."""
    async with site() as here:
        planted = token(here.server, "ops")
        _, _, given = await here.log_in("operator", Cookie=f"__Host-gw={planted}")
        assert value(given) not in ("", planted)
        assert here.ins.of(planted) is None
        made_up = "y" * 43
        _, _, given = await here.log_in("operator", Cookie=f"__Host-gw={made_up}")
        assert value(given) != made_up


@pytest.mark.parametrize(
    ("id_", "password"),
    [
        ("operator", "wrong"),
        ("operator", ""),
        ("nobody", PASSWORD),
        ("gone", PASSWORD),
        ("", PASSWORD),
        ("operator", "x" * 5000),
        ("Operator", PASSWORD),
        ("o" * 60_000, PASSWORD),
        ("operator", STORED),
    ],
)
async def test_who_does_not_get_in_learns_nothing(id_: str, password: str) -> None:
    """The same words whatever is wrong; no cookie; and no account or password on record."""
    async with site() as here:
        status, said, given = await here.log_in(id_, password)
        assert (status, given) == (401, "")
        assert said["title"] == "not logged in: wrong id or password"
        assert all(id_[:9] not in each for each in here.said) or not id_
        assert PASSWORD not in repr(here.disk.records)


async def test_guessing_is_slow_and_said() -> None:
    """After five failures the right password has to wait, too; the answer says how long."""
    async with site() as here:
        for _ in range(6):
            await here.log_in("operator", "wrong")
        async with (
            aiohttp.ClientSession(here.url) as http,
            http.post("/api/v1/login", json={"id": "operator", "password": PASSWORD}) as answer,
        ):
            assert answer.status == 429
            assert answer.headers["Retry-After"] == "2"
            assert "wait 2 s" in (await answer.json())["title"]
        await here.clock.advance(2.1)
        assert (await here.log_in("operator"))[0] == 200
        await here.ins.record()
        failed = [each for each in here.said if "failed" in each]
        assert len(failed) == 5
        assert "operator" not in "".join(failed)


async def test_many_tries_at_once_are_no_way_around_the_throttle() -> None:
    async with site() as here:
        tries = [here.log_in("operator", "wrong") for _ in range(20)]
        statuses = [status for status, _, _ in await asyncio.gather(*tries)]
        assert statuses.count(401) == 5
        assert statuses.count(429) == 15


async def test_a_third_log_in_ends_the_longest_idle() -> None:
    async with site(sessions_each=2) as here:
        tokens = []
        for _ in range(3):
            tokens.append(value((await here.log_in("operator"))[2]))
            await here.clock.advance(1.0)
        assert [here.ins.of(each) is not None for each in tokens] == [False, True, True]
        assert here.said[-2:] == [
            "operator: ended: replaced by a newer one",
            "operator: log-in local",
        ]


async def test_a_session_ends_by_itself_and_a_stream_is_no_act() -> None:
    """Idle for its time, whatever is read meanwhile; or after its whole time, whatever is done."""
    async with site(idle_s=900.0, absolute_s=3600.0) as here:
        async with seat(here.server, here.url) as http:

            async def status(method: str, path: str) -> int:
                async with http.request(method, path, json={}) as answer:
                    return answer.status

            await here.clock.advance(890)
            assert await status("GET", "/api/v1/snapshot") == 200
            await here.clock.advance(11)
            assert await status("GET", "/api/v1/snapshot") == 401
            here.ins.tick(here.clock.monotonic_s(), here.clock.wall_ms())
        async with seat(here.server, here.url) as http:
            for _ in range(4):
                await here.clock.advance(890)
                assert await status("POST", "/api/v1/me/active") == 200
            await here.clock.advance(41)
            assert await status("POST", "/api/v1/me/active") == 401
        here.ins.tick(here.clock.monotonic_s(), here.clock.wall_ms())
        await here.ins.record()
        assert here.said == ["operator: ended: idle", "operator: ended: whole time over"]


async def test_log_out_is_an_end() -> None:
    async with site() as here:
        mine = token(here.server)
        async with aiohttp.ClientSession(here.url, headers=headers(mine)) as http:
            async with http.post("/api/v1/logout", json={}) as answer:
                assert answer.status == 200
                assert "Max-Age=0" in cookie(answer)
            async with http.get("/api/v1/me") as answer:
                assert answer.status == 401
        assert here.said == ["operator: ended: log-out"]


async def test_a_supervisor_ends_anybodys_session() -> None:
    async with site() as here:
        theirs = token(here.server)
        async with seat(here.server, here.url, "supervisor") as http:
            async with http.get("/api/v1/sessions") as answer:
                listed = (await answer.json())["sessions"]
            (name,) = [each["name"] for each in listed if each["operator"] == "operator"]
            assert theirs not in str(listed)
            assert sessions.key_of(theirs) not in str(listed)
            async with http.post(f"/api/v1/sessions/{name}/end", json={}) as answer:
                assert answer.status == 200
            async with http.post(f"/api/v1/sessions/{name}/end", json={}) as answer:
                assert answer.status == 404
        assert here.ins.of(theirs) is None
        assert here.said == ["operator: ended: by supervisor"]


@pytest.mark.parametrize(
    "changes", [{"revoked": True}, {"roles": ("operator", "ops")}, {"password": "$argon2id$new"}]
)
async def test_whoever_changes_in_the_people_file_is_out(changes: dict[str, Any]) -> None:
    """At once, with what they had; so a new role comes with a new session alone."""
    async with site() as here:
        mine = token(here.server)
        here.rules.people(msgspec.structs.replace(OPERATORS[0], **changes), *OPERATORS[1:])
        async with (
            aiohttp.ClientSession(here.url, headers=headers(mine)) as http,
            http.get("/api/v1/me") as answer,
        ):
            assert answer.status == 401
        here.ins.tick(here.clock.monotonic_s(), here.clock.wall_ms())
        await here.ins.record()
        assert here.said == ["operator: ended: entry changed"]


# --------------------------------------------------------------------------- streams


ENDS = ("log-out", "ended by a supervisor", "revoked", "role changed", "idle")


@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_ends_with_its_session(end: str) -> None:
    """`bye`, and nothing after it: within two turns of its heart, and before the next event."""
    async with site() as here:
        here.server._streams._heartbeat_s = 0.05
        mine = token(here.server)
        async with (
            aiohttp.ClientSession(here.url, headers=headers(mine)) as http,
            http.get("/api/v1/stream") as stream,
        ):
            assert b'"hb"' in await stream.content.readuntil(b"\n\n")
            match end:
                case "log-out" | "ended by a supervisor":
                    session = here.ins.of(mine)
                    assert session is not None
                    await here.ins.end(session, end)
                case "revoked":
                    gone = msgspec.structs.replace(OPERATORS[0], revoked=True)
                    here.rules.people(gone, *OPERATORS[1:])
                case "role changed":
                    other = msgspec.structs.replace(OPERATORS[0], roles=("ops",))
                    here.rules.people(other, *OPERATORS[1:])
                case "idle":
                    await here.clock.advance(901)
            here.board.bus.publish(opened("C999"))
            said = []
            async with asyncio.timeout(10):
                async for line in stream.content:
                    if line.startswith(b"data: "):
                        said.append(line)
        assert b'"bye"' in said[-1]
        assert b'"session"' in said[-1]
        assert len(said) <= 3, "heartbeats that it still had"
        assert not any(b"C999" in each for each in said), "nothing that came after the end"


# --------------------------------------------------------------------------- over a crash


async def test_a_crash_logs_nobody_out_and_nobody_in() -> None:
    """What is on disk is all that is left: those who were in are in, those who were out are out."""
    async with site() as here:
        _, _, given = await here.log_in("operator")
        stays = value(given)
        _, _, given = await here.log_in("supervisor")
        leaves = here.ins.of(value(given))
        assert leaves is not None
        await here.ins.end(leaves, "log-out")
        await here.clock.advance(30)
        after = log_ins(here.clock, rules=here.rules, ledger=FakeLedger(here.disk))
        await after.restore()
        assert after.of(stays) is not None
        assert after.of(value(given)) is None
        await here.clock.advance(871)
        late = log_ins(here.clock, rules=here.rules, ledger=FakeLedger(here.disk))
        await late.restore()
        assert late.of(stays) is None
        await late.record()
        assert await here.ledger.kept("session") == []


async def test_with_the_ledger_away_one_can_log_in_and_it_is_recorded_later() -> None:
    """Who cannot log in sees no emergency; but what is owed has a bound."""
    async with site() as here:
        here.ledger.down = True
        assert (await here.log_in("operator"))[0] == 200
        assert here.said == []
        assert here.ins.unrecorded == 1
        here.ledger.down = False
        await here.ins.record()
        assert here.said == ["operator: log-in local"]
        here.ledger.down = True
        for _ in range(600):
            token(here.server)
            session = here.ins.sessions.all()[-1]
            await here.ins.end(session, "log-out")
        assert (await here.log_in("operator"))[0] == 503


# --------------------------------------------------------------------------- figures, command line


async def test_figures_are_for_these_networks_or_this_token() -> None:
    async with (
        site(http={"metrics_from": ("10.0.0.0/8",)}) as here,
        aiohttp.ClientSession(here.url) as http,
    ):
        for path in ("/metrics", "/readyz"):
            for brought, status in (
                ({}, 401),
                ({"Authorization": "Bearer host-token"}, 401),
                ({"Authorization": "Bearer é"}, 401),
                ({"Authorization": "Basic metrics-token"}, 401),
                (headers(token(here.server, "ops")), 401),
                ({"Authorization": "Bearer metrics-token"}, 200),
            ):
                async with http.get(path, headers=brought) as answer:
                    assert answer.status == status, (path, brought)
        async with http.get("/healthz") as answer:
            assert await answer.json() == {"alive": True}


async def test_the_command_line_is_known_by_the_hosts_token() -> None:
    """For what it needs and nothing else; who sits there it says itself."""
    async with site() as here:
        bearer = {"Authorization": "Bearer host-token", "Gateway-By": "root"}
        body = {"purpose": "lawfulness"}
        async with aiohttp.ClientSession(here.url) as http:
            async with http.post("/api/v1/export", json=body, headers=bearer) as answer:
                assert answer.status == 200
            assert here.board.acts[-1][2] == "cli:root"
            for bad in ({**bearer, "Gateway-By": ""}, {"Authorization": "Bearer x"}, {}):
                async with http.post("/api/v1/export", json=body, headers=bad) as answer:
                    assert answer.status in (400, 401)
            async with http.post(
                "/api/v1/alarms/A1/ack", json={}, headers={**bearer, **KEY}
            ) as answer:
                assert answer.status == 401


async def test_a_session_may_ask_so_often() -> None:
    """And who asks too often costs the others nothing."""
    async with (
        site(http={"per_session_per_s": 2.0}) as here,
        seat(here.server, here.url) as http,
        seat(here.server, here.url) as other,
    ):
        statuses = []
        for _ in range(6):
            async with http.get("/api/v1/me") as answer:
                statuses.append(answer.status)
        assert statuses == [200] * 4 + [429] * 2
        async with other.get("/api/v1/me") as answer:
            assert answer.status == 200
        await here.clock.advance(1.0)
        async with http.get("/api/v1/me") as answer:
            assert answer.status == 200


# --------------------------------------------------------------------------- a provider


@asynccontextmanager
async def with_provider(**auth: Any) -> AsyncIterator[tuple[Site, ScriptedIdp]]:
    async with ScriptedIdp(alg="ES256") as idp, site(mode="oidc", **auth) as here:
        here.ins._provider = Provider(
            issuer=idp.issuer,
            client_id=CLIENT,
            secret=Secret(SECRET),
            redirect_url=f"{here.url}login/callback",
            role_claim="groups",
            require_acr="",
            wall_s=idp._wall_s,
        )
        yield here, idp


async def by_provider(here: Site, idp: ScriptedIdp) -> tuple[int, str, str]:
    """As a browser goes there and back: status, page, cookie."""
    async with aiohttp.ClientSession(here.url) as http:
        async with http.get("/login/provider", allow_redirects=False) as answer:
            assert answer.status == 303
            ticket = cookie(answer, "__Host-oidc")
            assert "samesite=lax" in ticket.lower()
            assert "secure" in ticket.lower()
            back = idp.approve(answer.headers["Location"])
        brought = {"Cookie": f"__Host-oidc={value(ticket)}", "Sec-Fetch-Site": "cross-site"}
        async with http.get("/login/callback", params=back, headers=brought) as answer:
            return answer.status, await answer.text(), value(cookie(answer))


async def test_whom_the_provider_names_is_in() -> None:
    """The answer is a page that goes on by itself: the cookie is not sent with a redirect from
    another site."""
    async with with_provider() as (here, idp):
        idp.subject = "sub-supervisor"
        status, page, given = await by_provider(here, idp)
        assert (status, 'http-equiv="refresh"' in page) == (200, True)
        session = here.ins.of(given)
        assert session is not None
        assert (session.operator, session.roles) == ("supervisor", {"supervisor"})
        assert here.said == ["supervisor: log-in oidc"]
        assert (await here.log_in("supervisor"))[0] == 401, "no password beside it"


@pytest.mark.parametrize(
    ("subject", "groups", "roles"),
    [
        ("sub-operator", ["desk"], {"operator"}),
        ("sub-operator", ["desk", "boss"], {"operator"}),
        ("sub-operator", ["boss"], None),
        ("sub-operator", [], None),
        ("sub-stranger", ["desk"], None),
        ("sub-gone", ["boss"], None),
    ],
)
async def test_a_role_needs_the_word_of_both(
    subject: str, groups: list[str], roles: set[str] | None
) -> None:
    async with with_provider(roles={"desk": "operator", "boss": "supervisor"}) as (here, idp):
        idp.subject, idp.groups = subject, groups
        status, page, given = await by_provider(here, idp)
        if roles is None:
            assert (status, given) == (403, "")
            assert "Not logged in" in page
            assert subject not in repr(here.disk.records)
        else:
            session = here.ins.of(given)
            assert session is not None
            assert session.roles == roles


async def test_a_lie_of_the_provider_is_on_record_and_lets_nobody_in() -> None:
    async with with_provider() as (here, idp):
        idp.lie = "nonce"
        assert (await by_provider(here, idp))[0] == 403
        await here.ins.record()
        assert here.said == ["-: log-in failed: nonce, account -"]
        assert here.ins.sessions.all() == []


async def test_a_snapshot_is_shared_by_those_alone_who_see_the_same() -> None:
    """Two operators cost the core one picture; an auditor is not handed theirs."""
    async with site() as here:
        for who, pictures in (("operator", 1), ("op2", 1), ("auditor", 2), ("supervisor", 3)):
            async with (
                seat(here.server, here.url, who) as http,
                http.get("/api/v1/snapshot") as answer,
            ):
                assert answer.status == 200
            assert here.board.snapshots == pictures, who
