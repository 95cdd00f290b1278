"""An anchor that is reached over HTTP: PUT takes a head, GET gives the newest one that it has.

Any store that keeps what was PUT, best one that never forgets a version, will do. No redirect is
followed; the token's file is read each time, so that a renewed one is used at once.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

import aiohttp

from gateway.errors import AnchorFailed

TOTAL_S = 5.0
MOST_BYTES = 65536
TOKEN_MOST = 8192
_TOKEN = re.compile(rb"[!-~]+")


class HttpAnchor:
    """gateway.ports.Anchor. Each head has a connection of its own: one in a minute."""

    def __init__(
        self, name: str, url: str, *, ca_file: Path | None, token_file: Path | None
    ) -> None:
        self.name = name
        self._url = url
        self._ca_file = ca_file
        self._token_file = token_file

    async def put(self, head: bytes) -> None:
        await self._ask("PUT", head)

    async def newest(self) -> bytes | None:
        return await self._ask("GET", None)

    async def _ask(self, method: str, body: bytes | None) -> bytes | None:
        try:
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            if self._token_file is not None:
                token = await asyncio.to_thread(_read_token, self._token_file)
                headers["Authorization"] = f"Bearer {token}"
            context: ssl.SSLContext | bool = True
            if self._ca_file is not None:
                context = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(force_close=True, ssl=context),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=TOTAL_S),
                    auto_decompress=False,
                    trust_env=False,
                ) as session,
                session.request(
                    method, self._url, data=body, headers=headers, allow_redirects=False
                ) as reply,
            ):
                return await _read(reply, method)
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            # TimeoutError is an OSError.
            raise AnchorFailed(type(error).__name__) from error


async def _read(reply: aiohttp.ClientResponse, method: str) -> bytes | None:
    if method == "GET" and reply.status in (204, 404):
        return None
    if not 200 <= reply.status < 300:
        raise AnchorFailed(f"status {reply.status}")
    if method != "GET":
        return None
    body = bytearray()
    async for chunk in reply.content.iter_chunked(MOST_BYTES):
        body += chunk
        if len(body) > MOST_BYTES:
            raise AnchorFailed("oversize")
    return bytes(body).strip()


def _read_token(path: Path) -> str:
    """Raises OSError; the words of what it holds are in none of its errors."""
    with path.open("rb") as file:
        token = file.read(TOKEN_MOST + 1).strip()
    if len(token) > TOKEN_MOST or not _TOKEN.fullmatch(token):
        raise OSError("no token in its file")
    return token.decode("ascii")
