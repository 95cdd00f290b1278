"""The control room's door: the page, the API and the stream.

Every wait has a deadline (header, body, each write, the way out), every mailbox a bound, and on a
stop the streams are told `bye` first. There is no access log: addresses and queries are nobody's.
"""

from __future__ import annotations

import asyncio
import gzip
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from adapters.http_doors import Doors, Doorway
from adapters.server_tls import Certificate
from adapters.web import geojson, openapi, requests, shapes, walls
from adapters.web.board import Board
from adapters.web.gate import COOKIE, TICKET, Caller, Gate
from adapters.web.log_ins import LogIns
from adapters.web.requests import (
    Act,
    CheckAct,
    ExportAct,
    LogInAct,
    MessageAct,
    ReleaseAct,
    ReviewAct,
    ShelveAct,
)
from adapters.web.routes import BY_PLACE, ROUTES
from adapters.web.sessions import csrf_of
from adapters.web.stream import HEARTBEAT_S, WRITE_DEADLINE_S, Streams
from adapters.web.walls import LogInFirst, Problem, answer
from gateway.errors import ChainBroken, FactorsBusy, LogInRefused, TooSoon
from gateway.messages import (
    Actor,
    AlarmChanged,
    CheckRequest,
    MalformedCheck,
    Secret,
    Viewer,
)
from gateway.ports import Clock, Meter
from gateway.settings import HttpSection

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/desk.js": ("desk.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/login": ("login.html", "text/html"),
    "/login.js": ("login.js", "text/javascript"),
}
CALLER = web.RequestKey("caller", Caller)
SNAPSHOT_KEPT_S = 0.2
"""Many consoles that come back at once share one snapshot, if they may see the same."""
SNAPSHOTS_MOST = 16
PASSWORD_MOST = 1024
TICKET_S = 600
BUSY_S = 2.0
NO_UNIT = "no such unit, or more than one of that call-sign"
NOT_IN = "not logged in: wrong id or password"
"""Whatever the cause: who does not get in learns nothing from it."""
STREAMS_END_S = 1.0
PROVED_WITHIN_S = 10.0
MOST_KEYS = 1000
DEFAULT_INTERVAL_S = 30.0

B = TypeVar("B", bound=msgspec.Struct)

_CHANCE = secrets.SystemRandom()
_KEY = re.compile(r"[\x21-\x7e]{1,64}")


class PageMeter(Meter, Protocol):
    """The Meter port and what it says to Prometheus."""

    def render(self) -> bytes: ...


class WebServer:
    """`start` binds and serves; `stop` ends within a few seconds whatever is open.

    host_token: with it the command line calls us. metrics_token: with it anybody reads the figures.
    parse: reads an enquiry as an officer types it. intervals: device class -> seconds between its
    fixes (age bands on the page).
    uniform: chance, for the jitter of `bye`.
    """

    def __init__(
        self,
        settings: HttpSection,
        board: Board,
        *,
        meter: PageMeter,
        clock: Clock,
        log_ins: LogIns,
        host_token: Secret | None = None,
        metrics_token: Secret | None = None,
        certificate: Certificate | None = None,
        parse: Callable[[str], object] = lambda _text: None,
        intervals: Mapping[str, float] | None = None,
        version: str = "",
        uniform: Callable[[float, float], float] = _CHANCE.uniform,
        write_deadline_s: float = WRITE_DEADLINE_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._settings = settings
        self._board = board
        self._meter = meter
        self._clock = clock
        self._parse = parse
        self._intervals = intervals or {}
        self._units = shapes.Units()
        self._streams = Streams(
            board,
            meter=meter,
            clock=clock,
            units=self._units,
            uniform=uniform,
            write_deadline_s=write_deadline_s,
            heartbeat_s=heartbeat_s,
        )
        self._doors = Doors(settings)
        self._openapi = shapes.encode(openapi.document(version))
        self._files = {path: (PAGE / name).read_bytes() for path, (name, _) in FILES.items()}
        self._cache: dict[tuple[str, Viewer], tuple[float, int, bytes, bytes]] = {}
        self._acts: OrderedDict[tuple[str, str], tuple[str, asyncio.Future[shapes.Json]]] = (
            OrderedDict()
        )
        self._log_ins = log_ins
        self._certificate = certificate
        self._gate = Gate(
            log_ins,
            clock=clock,
            per_session_per_s=settings.per_session_per_s,
            metrics_from=settings.metrics_from,
            host=host_token,
            metrics=metrics_token,
        )
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self.port = 0

    # ------------------------------------------------------------------ life

    async def start(self) -> str:
        """Bind and serve; the page's address. Raises OSError when the port cannot be had."""
        runner = web.AppRunner(
            self.application(),
            handle_signals=False,
            access_log=None,
            keepalive_timeout=self._settings.header_deadline_s,
            shutdown_timeout=2,
        )
        await runner.setup()
        self._runner = runner
        assert runner.server is not None
        server = runner.server
        server.request_handler = walls.gated(server.request_handler)
        tls, host = self._certificate, self._settings.host
        try:
            self._listening = await self._doors.listen(
                server, host, self._settings.port, tls.context if tls is not None else None
            )
        except BaseException:
            await self.stop()
            raise
        self.port = int(self._listening.sockets[0].getsockname()[1])
        return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def renew(self) -> None:
        """Take over a renewed certificate. Raises OSError."""
        if self._certificate is not None:
            self._certificate.renew()

    async def stop(self) -> None:
        """Streams first, then the rest; safe to call twice."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        await self._streams.stop(STREAMS_END_S)
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def application(self) -> web.Application:
        """Routes and walls, for `start` and for tests of the route table."""
        app = web.Application(
            middlewares=[walls.build(self._settings, self._admit)], client_max_size=walls.BODY_LIMIT
        )
        app.on_response_prepare.append(walls.dress)
        for route in ROUTES:
            handler: Handler = getattr(self, f"_{route.handler}")
            if route.method == "GET":
                app.router.add_get(route.path, handler, allow_head=route.head)
            else:
                app.router.add_route(route.method, route.path, handler)
        return app

    def _admit(self, request: web.Request) -> None:
        """Put the caller into the request, or raise Problem or LogInFirst."""
        resource = request.match_info.route.resource
        if resource is None:
            return  # no such route, which is all that anybody is told
        method = "GET" if request.method == "HEAD" else request.method
        route = BY_PLACE[method, resource.canonical]
        try:
            request[CALLER] = self._gate.admit(request, route)
        except Problem as error:
            if error.status == 401 and route.page:
                raise LogInFirst from None
            raise

    # ------------------------------------------------------------------ log-in

    async def _how_to_log_in(self, _request: web.Request) -> web.Response:
        return answer({"mode": self._log_ins.settings.mode})

    async def _log_in(self, request: web.Request) -> web.Response:
        act = await self._decoded(request, LogInAct)
        if len(act.password) > PASSWORD_MOST:
            raise Problem(401, NOT_IN)
        try:
            opened = await self._log_ins.by_password(
                act.id, Secret(act.password), request.remote or ""
            )
        except LogInRefused:
            raise Problem(401, NOT_IN) from None
        except TooSoon as error:
            wait_s = math.ceil(error.wait_s)
            raise Problem(429, f"too many tries: wait {wait_s} s", after_s=wait_s) from None
        except FactorsBusy:
            raise Problem(503, "too many log in at once: try again", after_s=BUSY_S) from None
        await self._left(request)
        actor = opened.actor
        response = answer(
            {
                "id": actor.id,
                "name": actor.name,
                "roles": sorted(actor.roles),
                "csrf": csrf_of(opened.token),
            }
        )
        _give(response, COOKIE, opened.token)
        return response

    async def _to_provider(self, _request: web.Request) -> web.Response:
        try:
            url, ticket = await self._log_ins.begin()
        except LogInRefused:
            raise Problem(503, "the identity provider cannot be asked: try again") from None
        response = walls.elsewhere(url)
        # The way back begins at the provider, where Strict would hold the cookie back.
        _give(response, TICKET, ticket, same_site="Lax", max_age_s=TICKET_S)
        return response

    async def _from_provider(self, request: web.Request) -> web.Response:
        """A page that goes on by itself: the new cookie is not sent with a redirect from there."""
        ticket = request.cookies.get(TICKET, "")
        try:
            opened = await self._log_ins.by_provider(ticket, request.query)
        except LogInRefused:
            response = _page(403, "Not logged in. <a href='/login'>Try again</a>.")
        else:
            await self._left(request)
            response = _page(200, "Logged in. <a href='/'>Go on</a>.", on="/")
            _give(response, COOKIE, opened.token)
        _take(response, TICKET)
        return response

    async def _left(self, request: web.Request) -> None:
        """Whoever logs in anew leaves what they had before."""
        before = self._log_ins.of(request.cookies.get(COOKIE, ""))
        if before is not None:
            await self._log_ins.end(before, "logged in anew")

    async def _log_out(self, request: web.Request) -> web.Response:
        session = _caller(request).session
        if session is not None:
            await self._log_ins.end(session, "log-out")
        response = answer({})
        _take(response, COOKIE)
        return response

    async def _me(self, request: web.Request) -> web.Response:
        caller = _caller(request)
        return answer(
            {
                "id": caller.actor.id,
                "name": caller.actor.name,
                "roles": sorted(caller.actor.roles),
                "csrf": caller.csrf,
                "idle_s": self._log_ins.settings.idle_s,
            }
        )

    async def _active(self, request: web.Request) -> web.Response:
        """The gate took it for an act already: somebody is there."""
        del request
        return answer({})

    async def _sessions(self, request: web.Request) -> web.Response:
        now_s, own = self._clock.monotonic_s(), _caller(request).session
        return answer(
            {
                "sessions": [
                    {
                        "name": each.name,
                        "operator": each.operator,
                        "roles": sorted(each.roles),
                        "how": each.how,
                        "age_s": round(now_s - each.begun_s),
                        "idle_s": round(now_s - each.active_s),
                        "own": each is own,
                    }
                    for each in self._log_ins.sessions.all()
                ]
            }
        )

    async def _end_session(self, request: web.Request) -> web.Response:
        session = self._log_ins.sessions.named(request.match_info["name"])
        if session is None:
            raise Problem(404, "no such session")
        await self._log_ins.end(session, f"by {_caller(request).actor.id}")
        return answer({})

    # ------------------------------------------------------------------ reads

    async def _file(self, request: web.Request) -> web.Response:
        _, type_ = FILES[request.path]
        return web.Response(body=self._files[request.path], content_type=type_, charset="utf-8")

    async def _snapshot(self, request: web.Request) -> web.Response:
        return self._shared(request, "application/json", self._picture)

    async def _units_geojson(self, request: web.Request) -> web.Response:
        return self._shared(request, geojson.MEDIA_TYPE, self._places)

    def _shared(
        self, request: web.Request, media_type: str, made: Callable[[Viewer], bytes]
    ) -> web.Response:
        """What is alike for all who may see the same; who asks is told by /api/v1/me."""
        now_s, policies = asyncio.get_running_loop().time(), self._streams.policies
        viewer = self._gate.viewer(_caller(request))
        alike = (media_type, msgspec.structs.replace(viewer, id=""))
        kept = self._cache.get(alike)
        if kept is None or now_s - kept[0] > SNAPSHOT_KEPT_S or kept[1] != policies:
            if len(self._cache) >= SNAPSHOTS_MOST:
                self._cache.clear()
            plain = made(viewer)
            kept = self._cache[alike] = (now_s, policies, plain, gzip.compress(plain, 5))
        _, _, plain, small = kept
        vary = {"Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(
                body=small,
                content_type=media_type,
                headers={"Content-Encoding": "gzip", **vary},
            )
        return web.Response(body=plain, content_type=media_type, headers=vary)

    def _places(self, viewer: Viewer) -> bytes:
        picture = self._board.snapshot(viewer)
        return shapes.encode(geojson.units_body(picture, self._units, epoch=self._board.epoch))

    def _picture(self, viewer: Viewer) -> bytes:
        picture = self._board.snapshot(viewer)
        classes = {unit.meta.device_class for unit in picture.units}
        intervals = {name: self._intervals.get(name, DEFAULT_INTERVAL_S) for name in classes}
        return shapes.encode(
            shapes.snapshot_body(
                picture,
                self._units,
                epoch=self._board.epoch,
                intervals=intervals,
                me={"keys_off": False},
                rules=self._board.alarm_rules(),
            )
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        epoch, after = requests.place(
            request.headers.get("Last-Event-ID", ""),
            request.query.get("epoch"),
            request.query.get("after"),
        )
        caller = _caller(request)
        viewer = self._gate.viewer(caller)
        return await self._streams.serve(
            request, viewer, epoch, after, lambda: self._gate.still(caller)
        )

    async def _check(self, request: web.Request) -> web.Response:
        viewer = self._gate.viewer(_caller(request))
        now = self._board.check_view(viewer, request.match_info["ref"])
        if now is None:
            raise Problem(404, "no such check on the board")
        return answer(shapes.check_body(now, self._units))

    async def _time(self, _request: web.Request) -> web.Response:
        return answer({"t": self._clock.wall_ms() / 1000})

    async def _describe(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._meter.render(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _health(self, _request: web.Request) -> web.Response:
        alive = self._board.health()
        return answer({"alive": alive}, 200 if alive else 503)

    async def _ready(self, _request: web.Request) -> web.Response:
        ready, reasons = self._board.ready()
        return answer({"ready": ready, "reasons": reasons}, 200 if ready else 503)

    async def _releases(self, request: web.Request) -> web.Response:
        waiting = self._board.waiting(self._gate.viewer(_caller(request)))
        return answer({"releases": [shapes.release_body(each, self._units) for each in waiting]})

    async def _held(self, request: web.Request) -> web.Response:
        """Reading it is itself put on record first."""
        caller, ref = _caller(request), request.match_info["id"]
        viewer = self._gate.viewer(caller)
        try:
            async with asyncio.timeout(self._settings.body_deadline_s):
                held = await self._board.read_held(viewer, ref, caller.actor)
        except (KeyError, ValueError, TimeoutError) as error:
            raise _refusal(error) from error
        return answer(shapes.held_body(held, self._units))

    async def _challenges(self, request: web.Request) -> web.Response:
        waiting = self._board.to_review(self._gate.viewer(_caller(request)))
        return answer({"challenges": [shapes.review_body(each, self._units) for each in waiting]})

    # ------------------------------------------------------------------ changes

    async def _review(self, request: web.Request) -> web.Response:
        act = await self._decoded(request, ReviewAct)
        caller = _caller(request)
        actor, viewer = caller.actor, self._gate.viewer(caller)
        note = requests.why(act.note) if act.note else ""

        async def review(ref: str) -> shapes.Json:
            seen = await self._board.review(viewer, ref, actor, act.enough, note)
            return shapes.challenge_body(seen, self._units)

        return await self._act(request, f"review {act.enough} {note}", review)

    async def _ask_for(self, request: web.Request) -> web.Response:
        """Keyed for an officer who asked by voice; both stand on record."""
        act = await self._decoded(request, CheckAct)
        actor = _caller(request).actor
        asked = self._parse(act.text)
        if not isinstance(asked, CheckRequest):
            why = asked.why if isinstance(asked, MalformedCheck) else "an enquiry, as V TE99ABC R1"
            raise Problem(400, f"text: {why}")
        key = request.headers.get("Idempotency-Key", "")

        async def ask(_id: str) -> shapes.Json:
            made = await self._board.ask_for(actor, act.requester, asked, act.to_radio, key)
            return shapes.assisted_body(made, self._units)

        what = f"check {act.requester} {act.to_radio} {act.text}"
        return await self._act(request, what, ask)

    async def _answered(self, request: web.Request) -> web.Response:
        """For who asked; reading it is itself put on record first."""
        actor = _caller(request).actor
        try:
            async with asyncio.timeout(self._settings.body_deadline_s):
                found = await self._board.read_answer(request.match_info["ref"], actor)
        except (KeyError, ValueError, TimeoutError) as error:
            raise _refusal(error) from error
        return answer(shapes.answer_body(found))

    async def _release(self, request: web.Request) -> web.Response:
        act = await self._decoded(request, ReleaseAct)
        caller = _caller(request)
        actor, viewer = caller.actor, self._gate.viewer(caller)
        why = requests.why(act.why) if act.act == "refuse" else ""

        async def rule(ref: str) -> shapes.Json:
            ruled = await self._board.rule_release(viewer, ref, actor, act.act, act.level, why)
            return shapes.release_body(ruled, self._units)

        return await self._act(request, f"{act.act} {act.level} {why}", rule)

    async def _acknowledge(self, request: web.Request) -> web.Response:
        return await self._act_by(request, "ack", self._board.acknowledge)

    async def _close(self, request: web.Request) -> web.Response:
        return await self._act_by(request, "close", self._board.close_alarm)

    async def _shelve(self, request: web.Request) -> web.Response:
        act = await self._decoded(request, ShelveAct)
        actor, minutes, why = _caller(request).actor, act.minutes, act.why
        return await self._act(
            request,
            f"shelve {minutes} {why}",
            self._alarmed(lambda id_: self._board.shelve_alarm(id_, actor, minutes, why)),
        )

    async def _unshelve(self, request: web.Request) -> web.Response:
        return await self._act_by(request, "unshelve", self._board.unshelve_alarm)

    async def _mistake(self, request: web.Request) -> web.Response:
        return await self._act_by(request, "mistake", self._board.mark_mistake)

    async def _act_by(
        self,
        request: web.Request,
        verb: str,
        change: Callable[[str, Actor], Awaitable[AlarmChanged]],
    ) -> web.Response:
        """An act of which nothing is said but who does it."""
        await self._decoded(request, Act)
        actor = _caller(request).actor
        return await self._act(request, verb, self._alarmed(lambda id_: change(id_, actor)))

    def _alarmed(
        self, change: Callable[[str], Awaitable[AlarmChanged]]
    ) -> Callable[[str], Awaitable[shapes.Json]]:
        """The same, with the alarm's full record as its answer."""

        async def changed(id_: str) -> shapes.Json:
            return shapes.alarm_body(await change(id_), self._units)

        return changed

    async def _message(self, request: web.Request) -> web.Response:
        """To whoever holds this radio now."""
        act = await self._decoded(request, MessageAct)
        actor, text = _caller(request).actor, act.text

        async def sent(unit: str) -> shapes.Json:
            try:
                message = await self._board.send_message(unit, text, actor)
            except KeyError:
                raise Problem(404, NO_UNIT) from None
            return shapes.message_body(message, self._units)

        return await self._act(request, f"message {text}", sent)

    async def _locate(self, request: web.Request) -> web.Response:
        """The radio is asked; its answer is a position like any other."""
        await self._decoded(request, Act)
        actor = _caller(request).actor

        async def asked(unit: str) -> shapes.Json:
            try:
                terminal, t_ms = await self._board.locate(unit, actor)
            except KeyError:
                raise Problem(404, NO_UNIT) from None
            return shapes.located_body(terminal, t_ms, self._units)

        return await self._act(request, "locate", asked)

    async def _export(self, request: web.Request) -> web.Response:
        """Only the record of it: the lines are read by the command line, read-only."""
        act = await self._decoded(request, ExportAct)
        actor = _caller(request).actor
        receipt = requests.receipt(act.receipt) if act.receipt else ""
        async with asyncio.timeout(self._settings.body_deadline_s):
            instance = await self._board.record_export(act.purpose, actor, receipt)
        return answer({"instance": instance})

    async def _receipt(self, request: web.Request) -> web.Response:
        """For auditors alone. What was asked and shown leaves here, so it is put on record first,
        and what for."""
        receipt = requests.receipt(request.match_info["receipt"])
        purpose = requests.purpose(request.query.get("purpose", ""))
        actor = _caller(request).actor
        try:
            async with asyncio.timeout(PROVED_WITHIN_S):
                proof = await self._board.prove_receipt(receipt, purpose, actor)
        except TimeoutError:
            raise Problem(503, "the proof takes too long here: use `audit show`") from None
        except ChainBroken as error:
            raise Problem(500, f"the audit does not verify at {error.log}:{error.seq}") from None
        if proof is None:
            raise Problem(404, "no record has this receipt")
        return web.Response(body=proof, content_type="application/json")

    async def _act(
        self,
        request: web.Request,
        what: str,
        change: Callable[[str], Awaitable[shapes.Json]],
    ) -> web.Response:
        """Done once per Idempotency-Key: a repeat gets the answer of the first. what: the act, to
        know another one under the same key."""
        id_ = request.match_info.get("id", "")
        given = request.headers.get("Idempotency-Key", "")
        if not _KEY.fullmatch(given):
            raise Problem(400, "Idempotency-Key: 1 to 64 visible ASCII characters")
        key = (_caller(request).actor.id, given)  # nobody is told of another's act
        asked = f"{id_} {what}"
        known = self._acts.get(key)
        if known is not None:
            if known[0] != asked:
                raise Problem(422, "this Idempotency-Key was used for something else")
            return answer(await asyncio.shield(known[1]))
        done: asyncio.Future[shapes.Json] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody need wait
        self._acts[key] = (asked, done)
        while len(self._acts) > MOST_KEYS:
            self._acts.popitem(last=False)
        try:
            async with asyncio.timeout(self._settings.body_deadline_s):
                body = await change(id_)
        except BaseException as error:
            self._acts.pop(key, None)  # it failed: the same key may try again
            refusal = _refusal(error)
            done.set_exception(refusal if isinstance(refusal, Exception) else Problem(503, "try"))
            raise refusal from error
        self._cache.clear()  # who acts and looks again sees what they did
        done.set_result(body)
        return answer(body)

    async def _decoded(self, request: web.Request, type_: type[B]) -> B:
        if request.content_type != "application/json":
            raise Problem(415, "send application/json")
        try:
            async with asyncio.timeout(self._settings.body_deadline_s):
                raw = await request.read()
        except TimeoutError:
            raise Problem(408, "the body took too long") from None
        if isinstance(request.protocol, Doorway):
            request.protocol.asked()
        return requests.body(raw, type_)


def _caller(request: web.Request) -> Caller:
    return request[CALLER]


def _give(
    response: web.StreamResponse,
    name: str,
    value: str,
    *,
    same_site: str = "Strict",
    max_age_s: int | None = None,
) -> None:
    """A cookie that only this host gives and gets, that no script reads; until the browser ends."""
    response.set_cookie(
        name, value, path="/", secure=True, httponly=True, samesite=same_site, max_age=max_age_s
    )


def _take(response: web.StreamResponse, name: str) -> None:
    response.del_cookie(name, path="/", secure=True, httponly=True)


def _page(status: int, words: str, *, on: str = "") -> web.Response:
    """A few fixed words, in HTML; on: where it goes by itself."""
    going = f'<meta http-equiv="refresh" content="0;url={on}">' if on else ""
    text = f"<!doctype html><html lang='en-GB'><title>log-in</title>{going}<p>{words}</p></html>"
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def _refusal(error: BaseException) -> BaseException:
    """Why a change was not made, as the caller is told."""
    match error:
        case KeyError():
            return Problem(404, "there is no such thing")
        case ValueError():
            return Problem(409, str(error))
        case TimeoutError():
            return Problem(503, "cannot record this now: try again")
        case _:
            return error
