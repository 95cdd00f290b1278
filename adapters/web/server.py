"""The control room's door: the page, the API and the stream, on loopback.

Every wait has a deadline (header, body, each write, the way out), every mailbox a bound, and on a
stop the streams are told `bye` first. There is no access log: addresses and queries are nobody's.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import secrets
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web

from adapters.web import openapi, requests, shapes, walls
from adapters.web.board import Board
from adapters.web.doors import SEND_BUFFER, Doors, Doorway
from adapters.web.requests import Act, CheckAct, ExportAct, MessageAct, ReleaseAct, ShelveAct
from adapters.web.stream import HEARTBEAT_S, WRITE_DEADLINE_S, Streams
from adapters.web.walls import Problem, answer
from gateway import projection
from gateway.errors import ChainBroken
from gateway.messages import Actor, AlarmChanged, CheckRequest, MalformedCheck, Viewer
from gateway.ports import Clock, Meter
from gateway.settings import HttpSection

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
RIGHTS = frozenset(
    {"class", "callsign", "position", "identity", "emergency", "message", "release", "ask"}
)
"""Until log-in exists whoever reaches loopback is an operator of the whole area."""
SNAPSHOT_KEPT_S = 0.2
"""Many consoles that come back at once share one snapshot."""
STREAMS_END_S = 1.0
PROVED_WITHIN_S = 10.0
AT_ONCE = 32
"""So many are let in in one turn of the loop: it is the radios' loop as well."""
BACKLOG = 1024
"""Who finds this full comes again after one second, two, four: an operator in a crowd (W03)."""
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
        self._cache: tuple[float, int, bytes, bytes] | None = None
        self._acts: OrderedDict[str, tuple[str, asyncio.Future[shapes.Json]]] = OrderedDict()
        self._consoles = 0
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
        server, loop = runner.server, asyncio.get_running_loop()
        server.request_handler = walls.gated(server.request_handler)
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # inherited
            sock.bind((self._settings.host, self._settings.port))
            self._listening = await loop.create_server(
                lambda: self._doors.open(server), sock=sock, backlog=AT_ONCE
            )
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            await self.stop()
            raise
        self.port = int(sock.getsockname()[1])
        host = f"[{self._settings.host}]" if family == socket.AF_INET6 else self._settings.host
        return f"http://{host}:{self.port}/"

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
            middlewares=[walls.build(self._settings)], client_max_size=walls.BODY_LIMIT
        )
        app.on_response_prepare.append(walls.dress)
        for path in FILES:
            app.router.add_get(path, self._file)
        app.router.add_get("/api/v1/snapshot", self._snapshot)
        app.router.add_get("/api/v1/stream", self._stream, allow_head=False)
        app.router.add_get("/api/v1/checks/{ref}", self._check)
        app.router.add_post("/api/v1/checks", self._ask_for)
        app.router.add_get("/api/v1/checks/{ref}/answer", self._answered, allow_head=False)
        app.router.add_get("/api/v1/time", self._time)
        app.router.add_post("/api/v1/alarms/{id}/ack", self._acknowledge)
        app.router.add_post("/api/v1/alarms/{id}/close", self._close)
        app.router.add_post("/api/v1/alarms/{id}/shelve", self._shelve)
        app.router.add_post("/api/v1/alarms/{id}/unshelve", self._unshelve)
        app.router.add_post("/api/v1/alarms/{id}/mistake", self._mistake)
        app.router.add_post("/api/v1/units/{id}/message", self._message)
        app.router.add_get("/api/v1/releases", self._releases)
        app.router.add_get("/api/v1/releases/{id}", self._held, allow_head=False)
        app.router.add_post("/api/v1/releases/{id}", self._release)
        app.router.add_post("/api/v1/export", self._export)
        app.router.add_get("/api/v1/audit/receipts/{receipt}", self._receipt)
        app.router.add_get("/api/openapi.json", self._describe)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        return app

    # ------------------------------------------------------------------ reads

    async def _file(self, request: web.Request) -> web.Response:
        _, type_ = FILES[request.path]
        return web.Response(body=self._files[request.path], content_type=type_, charset="utf-8")

    def _viewer(self) -> Viewer:
        self._consoles += 1
        return viewer_of(Actor(id=f"console-{self._consoles}"))

    async def _snapshot(self, request: web.Request) -> web.Response:
        now_s, policies = asyncio.get_running_loop().time(), self._streams.policies
        kept = self._cache
        if kept is None or now_s - kept[0] > SNAPSHOT_KEPT_S or kept[1] != policies:
            plain = self._picture()
            kept = self._cache = (now_s, policies, plain, gzip.compress(plain, 5))
        _, _, plain, small = kept
        vary = {"Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(
                body=small,
                content_type="application/json",
                headers={"Content-Encoding": "gzip", **vary},
            )
        return web.Response(body=plain, content_type="application/json", headers=vary)

    def _picture(self) -> bytes:
        picture = self._board.snapshot(self._viewer())
        classes = {unit.meta.device_class for unit in picture.units}
        intervals = {name: self._intervals.get(name, DEFAULT_INTERVAL_S) for name in classes}
        me = {"id": "local", "roles": ["operator"], "keys_off": False}
        return shapes.encode(
            shapes.snapshot_body(
                picture,
                self._units,
                epoch=self._board.epoch,
                intervals=intervals,
                me=me,
                rules=self._board.alarm_rules(),
            )
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        epoch, after = requests.place(
            request.headers.get("Last-Event-ID", ""),
            request.query.get("epoch"),
            request.query.get("after"),
        )
        return await self._streams.serve(request, self._viewer(), epoch, after)

    async def _check(self, request: web.Request) -> web.Response:
        now = self._board.check_view(self._viewer(), request.match_info["ref"])
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

    async def _releases(self, _request: web.Request) -> web.Response:
        waiting = self._board.waiting(self._viewer())
        return answer({"releases": [shapes.release_body(each, self._units) for each in waiting]})

    async def _held(self, request: web.Request) -> web.Response:
        """Reading it is itself put on record first."""
        viewer, ref = self._viewer(), request.match_info["id"]
        try:
            async with asyncio.timeout(self._settings.body_deadline_s):
                held = await self._board.read_held(viewer, ref, _operator(viewer.id))
        except (KeyError, ValueError, TimeoutError) as error:
            raise _refusal(error) from error
        return answer(shapes.held_body(held, self._units))

    # ------------------------------------------------------------------ changes

    async def _ask_for(self, request: web.Request) -> web.Response:
        """Keyed for an officer who asked by voice; both stand on record."""
        act = await self._decoded(request, CheckAct)
        actor = _operator(requests.who(act.by))
        if "ask" not in viewer_of(Actor(id=actor.id)).rights:
            raise Problem(403, "you may not ask for officers")
        asked = self._parse(act.text)
        if not isinstance(asked, CheckRequest):
            why = asked.why if isinstance(asked, MalformedCheck) else "an enquiry, as V TE99ABC R1"
            raise Problem(400, f"text: {why}")
        key = request.headers.get("Idempotency-Key", "")

        async def ask(_id: str) -> shapes.Json:
            made = await self._board.ask_for(actor, act.requester, asked, act.to_radio, key)
            return shapes.assisted_body(made, self._units)

        what = f"check {actor.id} {act.requester} {act.to_radio} {act.text}"
        return await self._act(request, what, ask)

    async def _answered(self, request: web.Request) -> web.Response:
        """For who asked; reading it is itself put on record first. by: until log-in exists."""
        actor = _operator(requests.who(request.query.get("by", "")))
        try:
            async with asyncio.timeout(self._settings.body_deadline_s):
                found = await self._board.read_answer(request.match_info["ref"], actor)
        except (KeyError, ValueError, TimeoutError) as error:
            raise _refusal(error) from error
        return answer(shapes.answer_body(found))

    async def _release(self, request: web.Request) -> web.Response:
        act = await self._decoded(request, ReleaseAct)
        actor, viewer = _operator(requests.who(act.by)), self._viewer()
        why = requests.why(act.why) if act.act == "refuse" else ""

        async def rule(ref: str) -> shapes.Json:
            ruled = await self._board.rule_release(viewer, ref, actor, act.act, act.level, why)
            return shapes.release_body(ruled, self._units)

        return await self._act(request, f"{act.act} {actor.id} {act.level} {why}", rule)

    async def _acknowledge(self, request: web.Request) -> web.Response:
        return await self._act_by(request, "ack", self._board.acknowledge)

    async def _close(self, request: web.Request) -> web.Response:
        return await self._act_by(request, "close", self._board.close_alarm)

    async def _shelve(self, request: web.Request) -> web.Response:
        act = await self._decoded(request, ShelveAct)
        actor, minutes, why = Actor(id=requests.who(act.by)), act.minutes, act.why
        return await self._act(
            request,
            f"shelve {actor.id} {minutes} {why}",
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
        actor = Actor(id=requests.who((await self._decoded(request, Act)).by))
        what = f"{verb} {actor.id}"
        return await self._act(request, what, self._alarmed(lambda id_: change(id_, actor)))

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
        actor, text = Actor(id=requests.who(act.by)), act.text
        if "message" not in viewer_of(actor).rights:
            raise Problem(403, "you may not write to units")

        async def sent(unit: str) -> shapes.Json:
            try:
                message = await self._board.send_message(unit, text, actor)
            except KeyError:
                raise Problem(404, "no such unit, or more than one of that call-sign") from None
            return shapes.message_body(message, self._units)

        return await self._act(request, f"message {actor.id} {text}", sent)

    async def _export(self, request: web.Request) -> web.Response:
        """Only the record of it: the lines are read by the command line, read-only."""
        act = await self._decoded(request, ExportAct)
        actor = Actor(id=requests.who(act.by))
        receipt = requests.receipt(act.receipt) if act.receipt else ""
        async with asyncio.timeout(self._settings.body_deadline_s):
            instance = await self._board.record_export(act.purpose, actor, receipt)
        return answer({"instance": instance})

    async def _receipt(self, request: web.Request) -> web.Response:
        """For auditors alone. What was asked and shown leaves here, so it is put on record first,
        and what for."""
        viewer = self._viewer()
        if "audit" not in viewer.rights:
            raise Problem(403, "for auditors")
        receipt = requests.receipt(request.match_info["receipt"])
        purpose = requests.purpose(request.query.get("purpose", ""))
        try:
            async with asyncio.timeout(PROVED_WITHIN_S):
                proof = await self._board.prove_receipt(receipt, purpose, Actor(id=viewer.id))
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
        key = request.headers.get("Idempotency-Key", "")
        if not _KEY.fullmatch(key):
            raise Problem(400, "Idempotency-Key: 1 to 64 visible ASCII characters")
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
        self._cache = None  # who acts and looks again sees what they did
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


def viewer_of(actor: Actor) -> Viewer:
    """What this person may see over the API. Until log-in exists: whoever reaches us is an
    operator."""
    if not actor.roles:
        return Viewer(id=actor.id, kind="console", rights=RIGHTS)
    return projection.viewer_of(actor)


def _operator(id_: str) -> Actor:
    """Until log-in exists: whoever reaches us acts as an operator."""
    return Actor(id=id_, roles=frozenset({"operator"}))


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
