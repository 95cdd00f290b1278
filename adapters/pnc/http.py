"""Any PNC front end that speaks the project's JSON over HTTP (docs/pnc-http.md): the transport.

What a reply means is wire.py's. Here: every question has a connection of its own, so that a
second reply to one question cannot be read as the first to the next (what it leaves behind is
connection.py's); sizes are bounded before anything is parsed; nothing compressed is taken; no
status but 200 is read on. Of a reply that is refused a fingerprint is kept (P04).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from adapters.http_asking import bare_session, check_status, headers_of, refusal
from adapters.pnc import wire
from adapters.pnc.connection import LINES, Connector, Line
from adapters.pnc.fingerprint import fingerprint
from adapters.strict_json import read_sources
from gateway.errors import PncDown, PncGarbled, PncTimeout
from gateway.messages import PncAnswer, PncQuery
from gateway.ports import Also, nothing_more
from gateway.settings import PncSection, resolve

PATH = "v1/query"
SOURCES_PATH = "v1/sources"
SOURCES_S = 3.0
"""For the reply to which sources there are: no officer waits for it, and it is asked again."""
BACKSTOP_S = 60.0
"""Beyond the deadline the caller may still listen for a late answer; then we give up ourselves."""
CONNECTIONS = 256
"""Three for each question at once, as those overdue are still listened for: checks.concurrency 85.
Whoever finds none free within connect_timeout_s is told that the PNC cannot be reached."""
CHUNK = 65536
REFUSED_WITHIN_S = 0.2
"""For the body of a reply that its head refused already: only its fingerprint waits for it."""


class HttpPnc:
    """gateway.ports.Pnc over HTTP. The token's file is read for each question, so a renewed one
    is used at once; it is never logged."""

    def __init__(self, section: PncSection, *, config_path: Path) -> None:
        self._url = section.url.rstrip("/") + "/" + PATH
        self._section = section
        self._token = resolve(config_path, section.token_file) if section.token_file else None
        self._session: aiohttp.ClientSession | None = None
        self._connector: Connector | None = None
        self._closed = False

    async def query(self, query: PncQuery, also: Also = nothing_more) -> PncAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline and the retries."""
        if self._closed:
            raise PncDown("closed")
        headers = await headers_of(self._token, has_body=True)
        timeout = aiohttp.ClientTimeout(
            total=query.deadline_s + BACKSTOP_S,
            connect=self._section.connect_timeout_s,
            sock_connect=self._section.connect_timeout_s,
        )
        lines: list[Line] = []
        LINES.set(lines)
        try:
            async with self._client().post(
                self._url,
                data=wire.request(query),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as reply:
                check_status(reply.status)
                if reason := refusal(reply):
                    raise PncGarbled(reason, await self._refused(reply, reason))
                body = await self._body(reply)
        except aiohttp.ConnectionTimeoutError as error:
            raise PncDown("cannot be reached") from error
        except TimeoutError as error:
            raise PncTimeout("no reply") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise PncDown(type(error).__name__) from error
        except aiohttp.ClientError as error:
            kept = lines[-1].so_far("malformed") if lines else b""
            raise PncGarbled("malformed", kept) from error
        finally:
            if lines:
                lines[-1].on_more(also)
        try:
            return wire.read(body, query)
        except PncGarbled as error:
            raise PncGarbled(error.reason, fingerprint(error.reason, body)) from error

    async def sources(self) -> frozenset[str]:
        """Which sources reply now. Raises PncError."""
        if self._closed:
            raise PncDown("closed")
        headers = await headers_of(self._token, has_body=False)
        LINES.set([])
        try:
            async with self._client().get(
                self._url.removesuffix(PATH) + SOURCES_PATH,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=SOURCES_S),
                allow_redirects=False,
            ) as reply:
                check_status(reply.status)
                if reason := refusal(reply):
                    raise PncGarbled(reason)
                return read_sources(await self._body(reply))
        except TimeoutError as error:
            raise PncTimeout("no reply") from error
        except aiohttp.ClientError as error:
            raise PncDown(type(error).__name__) from error

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        """At most max_reply bytes, whatever the length header says."""
        most = self._section.max_reply
        if reply.content_length is not None and reply.content_length > most:
            raise PncGarbled("oversize", await self._refused(reply, "oversize"))
        body = bytearray()
        async for chunk in reply.content.iter_chunked(CHUNK):
            body += chunk
            if len(body) > most:
                reply.close()
                kept = fingerprint("oversize", bytes(body[:most]), whole=False)
                raise PncGarbled("oversize", kept)
        return bytes(body)

    async def _refused(self, reply: aiohttp.ClientResponse, reason: str) -> bytes:
        """Fingerprint of a body that is not taken: of as much of it as comes in a moment."""
        most, body, whole = self._section.max_reply, bytearray(), False
        try:
            async with asyncio.timeout(REFUSED_WITHIN_S):
                async for chunk in reply.content.iter_chunked(CHUNK):
                    body += chunk
                    if len(body) > most:
                        break
                else:
                    whole = True
        except (TimeoutError, aiohttp.ClientError):
            pass  # cut off, by us or by them
        if not whole:
            reply.close()
        return fingerprint(reason, bytes(body[:most]), whole=whole)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._connector = Connector(limit=CONNECTIONS)
            self._session = bare_session(self._connector)
        return self._session

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._connector is not None:
            self._connector.hang_up()
