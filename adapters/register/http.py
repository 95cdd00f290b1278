"""A vehicle register over HTTP (docs/pnc-http.md, "The vehicle register"): the transport.

As at the PNC each question has a connection of its own, sizes are bounded before anything is
parsed, nothing compressed is taken, and no status but 200 is read on.
"""

from __future__ import annotations

from pathlib import Path

import aiohttp

from adapters.http_asking import bare_session, check_status, headers_of, refusal
from adapters.register import wire
from adapters.strict_json import read_sources
from gateway.errors import PncDown, PncGarbled, PncTimeout
from gateway.messages import RegisterAnswer, RegisterQuery
from gateway.settings import RegisterSection, resolve

PATH = "register/v1/vehicles"
SOURCES_PATH = "register/v1/sources"
BACKSTOP_S = 60.0
"""Beyond the deadline; the caller has given up long before."""
SOURCES_S = 3.0
CONNECTIONS = 128
CHUNK = 65536


class HttpRegister:
    """gateway.ports.VehicleRegister over HTTP. The token's file is read for each question."""

    def __init__(self, section: RegisterSection, *, config_path: Path) -> None:
        self._url = section.url.rstrip("/") + "/"
        self._section = section
        self._token = resolve(config_path, section.token_file) if section.token_file else None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def look_up(self, query: RegisterQuery) -> RegisterAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline and the retries."""
        body = await self._exchange(
            "POST", PATH, wire.request(query), within_s=query.deadline_s + BACKSTOP_S
        )
        return wire.read(body, query)

    async def sources(self) -> frozenset[str]:
        return read_sources(await self._exchange("GET", SOURCES_PATH, None, within_s=SOURCES_S))

    async def _exchange(
        self, method: str, path: str, data: bytes | None, *, within_s: float
    ) -> bytes:
        """The body of a reply that may be read on. Raises PncError."""
        if self._closed:
            raise PncDown("closed")
        headers = await headers_of(self._token, has_body=data is not None)
        connect_s = self._section.connect_timeout_s
        timeout = aiohttp.ClientTimeout(total=within_s, connect=connect_s, sock_connect=connect_s)
        try:
            async with self._client().request(
                method,
                self._url + path,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as reply:
                check_status(reply.status)
                if reason := refusal(reply):
                    raise PncGarbled(reason)
                return await self._body(reply)
        except aiohttp.ConnectionTimeoutError as error:
            raise PncDown("cannot be reached") from error
        except TimeoutError as error:
            raise PncTimeout("no reply") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise PncDown(type(error).__name__) from error
        except aiohttp.ClientError as error:
            raise PncGarbled("malformed") from error

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        """At most max_reply bytes, whatever the length header says."""
        body = bytearray()
        async for chunk in reply.content.iter_chunked(CHUNK):
            body += chunk
            if len(body) > self._section.max_reply:
                reply.close()
                raise PncGarbled("oversize")
        return bytes(body)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = bare_session(aiohttp.TCPConnector(limit=CONNECTIONS, force_close=True))
        return self._session

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
