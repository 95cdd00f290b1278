"""The link to trackers that send their positions over HTTP, as OsmAnd's and Traccar's clients do.

Rules of this module (docs/interfaces.md, OsmAnd)
1. It listens by itself, and never on the page's port: who may send a position may do nothing else.
2. Nobody is believed for a name alone: the token opens, and the fleet file says who is called so.
   A name with a token of its own is opened by that one only.
3. A stranger learns nothing: without the token there is one answer, whatever was asked.
4. A token is in the address, where these clients can put one: it is taken out before anybody sees
   what was sent, the recording included.
5. 200 means taken. What says no position is answered so that its client goes on to the next one:
   some keep sending what was refused, for ever, before everything newer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote_plus

from aiohttp import web

from adapters.http_doors import WAY_OUT_S, Doors, Doorway
from adapters.links.intake import Intake, nameless, nobody
from adapters.links.line import why
from adapters.server_tls import Certificate
from gateway.errors import LinkDown, SendFailed
from gateway.messages import FIX_REASONS, BadFrame, Bearer, Decoded, Downlink, Issi, Secret
from gateway.ports import (
    SEND_S,
    Clock,
    Codec,
    Handle,
    Journal,
    Meter,
    Named,
    Suspect,
    Tap,
    untapped,
)
from gateway.settings import OsmandSection, resolve

PROTOCOL = "osmand"
QUERY, JSON = "query", "json"
BODY_MAX = 16 * 1024
TOKEN = "token"  # noqa: S105 - the member's name
TOKEN_LEAST = 16
"""Characters: whoever may guess a million times a second does not guess it."""
TOKENS_MOST = 1_048_576
"""Bytes of a file of tokens: what is longer is some other file."""
TAKEN_WITHIN_S = 5.0
"""An emergency waits for its record; what is not taken by then is sent again by its client."""
ADDRESSES_MOST = 4096
"""That are remembered; the longest quiet is forgotten first."""
BURST_S = 2.0
WAIT_MOST_S = 2.0
STOP_WITHIN_S = 1.0
NO_TOKENS = "token file cannot be read, or one in it is too short"
NO_CERTIFICATE = "certificate file cannot be used"
_NO_POSITION = frozenset(FIX_REASONS)
_HEADERS = {"Server": "gateway", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_log = logging.getLogger("adapters.links")


class _Reads(Protocol):
    """What this link needs of its codec besides the port: who a request says that it is."""

    def read(
        self, data: bytes, *, received_at_ms: int, channel: str = ""
    ) -> tuple[str, Sequence[Decoded]]: ...


class Refused(Exception):
    """An answer that says no, and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Tokens:
    """Who opens. A line is a token for every name, or a name and the token that it alone has."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for a line that is neither, and for a token too short."""
        self._all: list[Secret] = []
        self._own: dict[str, Secret] = {}
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            name, _, token = line.strip().rpartition(" ")
            if len(token) < TOKEN_LEAST or not token.isascii() or not token.isprintable():
                raise ValueError("a token is too short, or is none")
            if name.strip():
                self._own[name.strip()] = Secret(token)
            else:
                self._all.append(Secret(token))
        if not self._all and not self._own:
            raise ValueError("no token")

    def open(self, device: str, given: str) -> bool:
        """Whether this token is the one of this device, or of every device without one."""
        if not given.isascii():
            return False
        own, said = self._own.get(device), Secret(given)
        # Each is compared, so that nobody learns from the time which one it was.
        return [each == said for each in ([own] if own is not None else self._all)].count(True) > 0


class Pace:
    """Who asks too often waits for an answer: nobody is refused, for it may be an emergency, and
    many share the address of their network. Pure: time is handed in."""

    def __init__(self, per_s: float) -> None:
        self._every_s = 1 / per_s
        self._due_s: OrderedDict[str, float] = OrderedDict()
        """By address: when it would be on time again."""

    def wait_s(self, address: str, now_s: float) -> float:
        """So long what it asks now has to wait; BURST_S ahead of its pace it need not."""
        due_s = max(now_s, self._due_s.pop(address, now_s))
        # Who hangs up while it waits must not make the next one from there wait for it.
        self._due_s[address] = min(due_s + self._every_s, now_s + BURST_S + WAIT_MOST_S)
        while len(self._due_s) > ADDRESSES_MOST:
            self._due_s.popitem(last=False)
        return min(WAIT_MOST_S, max(0.0, due_s - BURST_S - now_s))


class _Asked(NamedTuple):
    """One request, without its token."""

    channel: str
    data: bytes
    token: str


class OsmandLink:
    """gateway.ports.Link. named: whose tracker it is. It reaches nobody: none has a screen."""

    kind = "http"
    bearer = Bearer.HTTP
    send_s = SEND_S

    def __init__(
        self,
        section: OsmandSection,
        *,
        instance: str,
        config_path: Path,
        clock: Clock,
        meter: Meter,
        journal: Journal,
        known: Callable[[Issi], bool],
        codecs: Callable[..., Codec],
        suspect: Suspect = nobody,
        tap: Tap = untapped,
        named: Named = nameless,
    ) -> None:
        del instance
        self.name = section.name
        self._section = section
        self._config_path = config_path
        self._clock = clock
        self._meter = meter
        self._journal = journal
        self._known = known
        self._codecs = codecs
        self._suspect = suspect
        self._tap = tap
        self._named = named
        self._tokens: Tokens | None = None
        self._intake: Intake | None = None
        self._pace = Pace(section.per_address_per_s)
        self.port = 0
        """Where it listens while it is up."""
        self.heard_at_s: float | None = None

    # ----------------------------------------------------------------- life

    async def run(self, handle: Handle, up: Callable[[], None]) -> None:
        """Listen until cancelled. Raises LinkDown when that cannot begin."""
        section = self._section
        tokens, certificate = await asyncio.to_thread(self._opened)
        self._tokens = tokens
        self._intake = self._way_in(handle)
        server = web.Server(self._answer)
        try:
            listening = await Doors(section).listen(
                server, section.host, section.port, certificate.context if certificate else None
            )
        except OSError as error:
            raise LinkDown(why(error, "cannot listen")) from error
        try:
            self.port = int(listening.sockets[0].getsockname()[1])
            self.heard_at_s = None
            up()
            await asyncio.get_running_loop().create_future()  # until somebody cancels
        finally:
            self.port = 0
            listening.close()
            server.pre_shutdown()  # whoever asks nothing now
            await server.shutdown(STOP_WITHIN_S)

    def _way_in(self, handle: Handle) -> Intake:
        return Intake(
            link=self.name,
            bearer=self.bearer,
            clock=self._clock,
            meter=self._meter,
            handle=handle,
            suspect=self._suspect,
        )

    def played(self, handle: Handle) -> Tap:
        """gateway.ports.Plays. No token is in a recording: each counts as right."""
        intake = self._way_in(handle)

        def hear(channel: str, data: bytes) -> None:
            with contextlib.suppress(Refused):
                self._decided(_Asked(channel, data, ""), intake, _nobody_waits, known=True)

        return hear

    def _opened(self) -> tuple[Tokens | None, Certificate | None]:
        """What stands in the files; read anew each time. Blocks."""
        section, path = self._section, self._config_path
        tokens = certificate = None
        if section.token_file:
            try:
                with resolve(path, section.token_file).open("rb") as file:
                    held = file.read(TOKENS_MOST + 1)
                if len(held) > TOKENS_MOST:
                    raise ValueError("too long")
                tokens = Tokens(held.decode())
            except (OSError, ValueError) as error:  # what is no text is a ValueError
                raise LinkDown(NO_TOKENS, refused=True) from error
        if section.cert_file:
            cert, key = resolve(path, section.cert_file), resolve(path, section.key_file)
            try:
                certificate = Certificate(cert, key, least=section.min_tls)
            except OSError as error:  # ssl.SSLError is one
                raise LinkDown(NO_CERTIFICATE, refused=True) from error
        return tokens, certificate

    # ----------------------------------------------------------------- one request

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        doorway = request.protocol
        assert isinstance(doorway, Doorway)
        doorway.within(self._section.body_deadline_s + TAKEN_WITHIN_S + WAY_OUT_S)
        if not request.can_read_body:
            doorway.asked()
        try:
            status = await self._taken(request, doorway)
        except Refused as error:
            status = error.status
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the last wall: this request is given up, the rest goes on
            _log.exception("request failed")
            status = 500
        finally:
            if not request.task.cancelling():
                doorway.within(WAY_OUT_S + self._section.header_deadline_s)
                doorway.answered()
        answer = web.Response(status=status, headers=_HEADERS)
        if status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        if status not in (200, 204):
            answer.force_close()  # nothing of what may still come is read
        return answer

    async def _taken(self, request: web.BaseRequest, doorway: Doorway) -> int:
        """What became of it, as a status. Raises Refused."""
        wait_s = self._pace.wait_s(request.remote or "", self._clock.monotonic_s())
        if wait_s:
            await self._clock.sleep(wait_s)
        if request.method not in ("GET", "POST"):
            raise Refused(405)
        if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
            raise Refused(403)  # a page somewhere that has found us: trackers are no browsers
        asked = await self._asked(request)
        doorway.asked()
        return await self._judged(asked)

    async def _judged(self, asked: _Asked) -> int:
        assert self._intake is not None
        settled = asyncio.Event()
        status = self._decided(asked, self._intake, settled.set)
        if status != 200:
            return status
        try:
            async with asyncio.timeout(TAKEN_WITHIN_S):
                await settled.wait()
        except TimeoutError:
            raise Refused(503) from None
        return 200

    def _decided(
        self, asked: _Asked, intake: Intake, settle: Callable[[], None], *, known: bool = False
    ) -> int:
        """Judged, and handed over: 200 when it is taken once `settle` was called, 204 when there
        is nothing to wait for. Raises Refused. known: whatever its token is."""
        received_at_ms = self._clock.wall_ms()
        self._tap(asked.channel, asked.data)
        intake.heard(len(asked.data))
        codec: Any = self._codecs(PROTOCOL, side="gateway", speed_unit=self._section.speed_unit)
        reader: _Reads = codec
        device, decoded = reader.read(
            asked.data, received_at_ms=received_at_ms, channel=asked.channel
        )
        closed = self._tokens is not None and not self._tokens.open(device, asked.token)
        if closed and not known:
            intake.reject("auth")
            if issi := self._named(PROTOCOL, device):
                # Somebody may say where it is, and has not its token.
                intake.suspect("identity", issi)
            raise Refused(401)
        if intake.readable(decoded):
            self.heard_at_s = self._clock.monotonic_s()
        bad = [each.reason for each in decoded if isinstance(each, BadFrame)]
        unreadable = [reason for reason in bad if reason not in _NO_POSITION]
        # Of an emergency the rest may be unreadable: it is one all the same.
        if not device or (unreadable and len(bad) == len(decoded)):
            for reason in unreadable or ["identity"]:
                intake.reject(reason)
            raise Refused(400)
        issi = self._named(PROTOCOL, device)
        if not issi or not self._known(issi):
            intake.reject("unknown_terminal")
            raise Refused(404)
        intake.take(decoded, issi, received_at_ms, settle)
        return 204 if len(bad) == len(decoded) else 200

    async def _asked(self, request: web.BaseRequest) -> _Asked:
        """Read within its bounds, and told apart. Raises Refused."""
        body = await self._body(request) if request.can_read_body else b""
        raw = request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape")
        query, token = _without_token(raw)
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = token or bearer.strip()
        if body.lstrip()[:1] in (b"{", b"["):
            return _Asked(JSON, body, token)
        if query or not body:
            return _Asked(QUERY, query, token)
        form, also = _without_token(body)
        return _Asked(QUERY, form, token or also)

    async def _body(self, request: web.BaseRequest) -> bytes:
        if (request.content_length or 0) > BODY_MAX:
            raise Refused(413)
        body = bytearray()
        try:
            async with asyncio.timeout(self._section.body_deadline_s):
                async for piece in request.content.iter_chunked(4096):
                    body += piece
                    if len(body) > BODY_MAX:
                        raise Refused(413)
        except TimeoutError:
            raise Refused(408) from None
        except web.RequestPayloadError:
            raise Refused(400) from None
        return bytes(body)

    # ----------------------------------------------------------------- out

    def reaches(self, terminal: Issi) -> bool:
        """Never: a tracker has no screen."""
        del terminal
        return False

    async def send(
        self, terminal: Issi, message: Downlink, *, expires_in_s: float, deadline_s: float
    ) -> None:
        del terminal, message, expires_in_s, deadline_s
        raise SendFailed("a tracker has no screen")


def _nobody_waits() -> None:
    """What is played again is answered to nobody."""


def _without_token(query: bytes) -> tuple[bytes, str]:
    """What stands in it, but for the token; and that. Two tokens are none."""
    kept: list[bytes] = []
    found: list[str] = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_plus(name.decode("latin-1")).strip().lower() == TOKEN:
            found.append(unquote_plus(value.decode("latin-1")))
        else:
            kept.append(part)
    return b"&".join(kept), found[0] if len(found) == 1 else ""
