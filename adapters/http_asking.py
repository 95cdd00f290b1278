"""How a question over HTTP is put, and what the head of its reply says, by remedy
(docs/pnc-http.md).

Only status 200 is read on; nothing packed, nothing but JSON in UTF-8.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp

from gateway.errors import PncDown, PncError, PncInvalid, PncUnauthorised

CHARSETS = frozenset({None, "utf-8", "us-ascii"})
TOKEN_MOST = 8192
"""What a header line may hold (aiohttp and most servers: 8190)."""
_TOKEN = re.compile(rb"[!-~]+")


def bare_session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """A session that keeps no cookie, unpacks nothing and heeds no proxy of the environment."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def headers_of(token_file: Path | None, *, has_body: bool) -> dict[str, str]:
    """Of a question in JSON. The token is read anew each time. Raises PncUnauthorised."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if has_body:
        headers["Content-Type"] = "application/json"
    if token_file is not None:
        token = await asyncio.to_thread(read_token, token_file)
        headers["Authorization"] = f"Bearer {token}"
    return headers


def check_status(status: int) -> None:
    """What a status means; only 200 is read on. A 404 is an error, never "no trace"."""
    match status:
        case 200:
            return
        case 400 | 422:
            raise PncInvalid("not valid")
        case 401 | 403:
            raise PncUnauthorised("not authorised")
        case 408 | 423 | 429:
            raise PncDown(f"status {status}")
        case _ if status >= 500:
            raise PncDown(f"status {status}")
        case _:
            raise PncError(f"status {status}")


def refusal(reply: aiohttp.ClientResponse) -> str:
    """Why its head says that it is no reply: JSON in UTF-8, as it is, and not a page of a proxy, or
    something packed. Empty when it may be one."""
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        return "malformed"
    if reply.content_type != "application/json":
        return "malformed"
    charset = reply.charset
    return "" if (charset.lower() if charset else None) in CHARSETS else "charset"


def read_token(path: Path) -> str:
    """What stands in the token's file. Raises PncUnauthorised, which never quotes it."""
    try:
        with path.open("rb") as file:
            token = file.read(TOKEN_MOST + 1).strip()
    except OSError as error:
        raise PncUnauthorised("token file cannot be read") from error
    if len(token) > TOKEN_MOST or not _TOKEN.fullmatch(token):
        raise PncUnauthorised("token file holds no token")
    return token.decode("ascii")
