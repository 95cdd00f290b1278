"""What every request must pass and every answer must carry.

Only our own names in Host (a page elsewhere cannot reach us by rebinding its name), only our own
page may change anything, nobody gets further whom the gate does not admit, every error is a plain
`application/problem+json`, and the headers of the reliability reference, 9, stand on every answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from adapters.http_doors import WAY_OUT_S, Doorway
from adapters.web import shapes
from adapters.web.requests import Unclear
from gateway.errors import LedgerUnavailable
from gateway.settings import HttpSection

BODY_LIMIT = 64 * 1024
NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PROBLEM = "application/problem+json"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
    "Cache-Control": "no-store",
}

YEAR_S = 31_536_000
CONTINUE = "100-continue"

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("adapters.web")


class Problem(Exception):
    """An answer that says no: status and plain words that are shown as they are."""

    def __init__(self, status: int, title: str, *, after_s: float = 0.0) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.after_s = after_s
        """When it may be tried again; 0: not said."""


class LogInFirst(Exception):
    """A browser that asked for a page is shown the log-in."""


def answer(body: object, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=shapes.encode(body), status=status, content_type=content_type)


def problem(status: int, title: str, after_s: float = 0.0) -> web.Response:
    """RFC 9457; `instance` is a fresh id that the log line of this error carries as well."""
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "instance": secrets.token_hex(6),
    }
    response = answer(body, status, PROBLEM)
    if after_s:
        response.headers["Retry-After"] = str(math.ceil(after_s))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def elsewhere(path: str) -> web.Response:
    """A page of ours that whoever came here needs first."""
    return web.Response(status=303, headers={"Location": path})


def gated(handle: Answering) -> Answering:
    """Before the routes: aiohttp answers an Expect by itself, outside these walls, quoting it, and
    fails on one that is no text. Nobody needs any but 100-continue."""

    async def gate(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", CONTINUE).lower() == CONTINUE:
            return await handle(request)
        refusal = problem(417, "send no Expect but 100-continue")
        await dress(request, refusal)
        return refusal

    return gate


async def dress(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """on_response_prepare: security headers on, version headers off."""
    response.headers.update(HEADERS)
    response.headers["Server"] = "gateway"
    if request.secure:
        response.headers["Strict-Transport-Security"] = f"max-age={YEAR_S}"


def build(
    settings: HttpSection, admit: Callable[[web.Request], None], log_in: str = "/login"
) -> Middleware:
    """The one middleware. admit: raises Problem for whom nobody may let in; 401 for a page means
    that a browser is sent to `log_in`."""
    request_s = settings.body_deadline_s + WAY_OUT_S
    names = NAMES | {settings.host, *settings.names}

    @web.middleware
    async def walls(request: web.Request, handler: Handler) -> web.StreamResponse:
        doorway = request.protocol
        if isinstance(doorway, Doorway):
            doorway.within(request_s)
            if not request.body_exists:
                doorway.asked()
        try:
            if _host(request.headers.get("Host", "")) not in names:
                raise Problem(421, "not the host you asked for")
            if request.method not in ("GET", "HEAD"):
                from_this_site(request)
            admit(request)
            return await handler(request)
        except LogInFirst:
            return elsewhere(log_in)
        except Problem as error:
            return problem(error.status, error.title, error.after_s)
        except Unclear as error:
            return problem(400, str(error))
        except web.HTTPException as error:
            return problem(error.status, HTTPStatus(error.status).phrase)
        except LedgerUnavailable:
            return problem(503, "cannot record this now: nothing was changed")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the last wall: say no more than that it failed
            refusal = problem(500, "internal error")
            _log.exception("request failed")
            return refusal
        finally:
            if isinstance(doorway, Doorway) and not request.task.cancelling():
                doorway.within(WAY_OUT_S + settings.header_deadline_s)
                doorway.answered()

    return walls


def _host(authority: str) -> str | None:
    if "@" in authority:
        return None
    try:
        return urlsplit(f"//{authority}").hostname
    except ValueError:
        return None


def from_this_site(request: web.Request) -> None:
    """From our own page or from a program, never from another site's page. Raises Problem."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "not from this site")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.headers.get('Host', '')}":
        raise Problem(403, "not from this site")
