"""Any PNC front end that speaks the project's JSON over HTTP (docs/pnc-http.md).

Rules: nothing but a whole, well-formed reply that echoes this very question is an answer; "not
found" counts only when the reply says `no_trace` in so many words; every question has a
connection of its own, so that a second reply to one question cannot be read as the first to the
next. Sizes are bounded before anything is parsed, and nothing compressed is taken.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import msgspec
from msgspec import Meta

from gateway.errors import PncDown, PncError, PncGarbled, PncInvalid, PncTimeout, PncUnauthorised
from gateway.messages import Block, Key, PncAnswer, PncQuery, PncRecord, kind_of
from gateway.settings import PncSection, resolve

PATH = "v1/query"
PROTOCOL = 1
BACKSTOP_S = 60.0
"""Beyond the deadline the caller may still listen for a late answer; then we give up ourselves."""
CONNECTIONS = 64
NESTING_MAX = 12
RECORDS_MAX = 12
CHUNK = 65536
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z")


class WireBlock(msgspec.Struct):
    """A source behind the answer. state: OK, STALE or UNAVAILABLE."""

    source: Annotated[str, Meta(min_length=1, max_length=40)]
    as_of: str
    state: str


class WireReply(msgspec.Struct):
    """The reply. Members that are not known are ignored; those that are must be right."""

    protocol: int
    check: str
    attempt: int
    key_text: str
    result: str
    as_of: str
    records: Annotated[list[dict[str, Any]], Meta(max_length=RECORDS_MAX)]
    blocks: Annotated[list[WireBlock], Meta(max_length=20)]
    not_checked: Annotated[list[str], Meta(max_length=20)]


class HttpPnc:
    """gateway.ports.Pnc over HTTP. The token's file is read for each question, so a renewed one
    is used at once; it is never logged."""

    def __init__(self, section: PncSection, *, config_path: Path) -> None:
        self._url = section.url.rstrip("/") + "/" + PATH
        self._section = section
        self._token = resolve(config_path, section.token_file) if section.token_file else None
        self._session: aiohttp.ClientSession | None = None

    async def query(self, query: PncQuery) -> PncAnswer:
        """One attempt. Raises PncError by remedy; the caller owns the deadline and the retries."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {await asyncio.to_thread(self._read_token)}"
        timeout = aiohttp.ClientTimeout(
            total=query.deadline_s + BACKSTOP_S,
            sock_connect=self._section.connect_timeout_s,
        )
        try:
            async with self._client().post(
                self._url,
                data=_request(query),
                headers={**headers, "Content-Type": "application/json"},
                timeout=timeout,
                allow_redirects=False,
            ) as reply:
                _check_status(reply.status)
                if reply.headers.get("Content-Encoding", "identity") != "identity":
                    raise PncGarbled("malformed")
                body = await self._body(reply)
        except aiohttp.ConnectionTimeoutError as error:
            raise PncDown("cannot be reached") from error
        except TimeoutError as error:
            raise PncTimeout("no reply") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise PncDown(type(error).__name__) from error
        except aiohttp.ClientError as error:
            raise PncGarbled("malformed") from error
        return read(body, query)

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        """At most max_reply bytes, whatever the length header says."""
        most = self._section.max_reply
        body = bytearray()
        async for chunk in reply.content.iter_chunked(CHUNK):
            body += chunk
            if len(body) > most:
                reply.close()
                raise PncGarbled("oversize")
        return bytes(body)

    def _read_token(self) -> str:
        assert self._token is not None
        try:
            return self._token.read_text("utf-8").strip()
        except OSError as error:
            raise PncUnauthorised("token file cannot be read") from error

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _check_status(status: int) -> None:
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


def _request(query: PncQuery) -> bytes:
    return msgspec.json.encode(
        {
            "protocol": PROTOCOL,
            "check": query.check,
            "attempt": query.attempt,
            "key_text": query.key_text,
            "operation": kind_of(query.key).value,
            "key": _members(query.key),
            "reason": query.reason,
            "justification": query.justification,
            "originator": query.originator,
            "location": query.location,
            "on_behalf_of": query.on_behalf_of,
            "asked_at": _moment_text(query.asked_at_ms),
            "deadline_s": query.deadline_s,
        }
    )


def _members(key: Key) -> dict[str, Any]:
    """The key without what is empty: a member that is there was asked for."""
    values = {name: getattr(key, name) for name in key.__struct_fields__}
    return {name: value for name, value in values.items() if value not in ("", None)}


def read(body: bytes, query: PncQuery) -> PncAnswer:
    """The answer in these bytes, or PncGarbled: nothing in between."""
    if _too_deep(body):
        raise PncGarbled("malformed")
    try:
        reply = msgspec.json.decode(body, type=WireReply)
    except UnicodeDecodeError as error:
        raise PncGarbled("charset") from error
    except (msgspec.DecodeError, RecursionError) as error:
        text = str(error)
        reason = "truncated" if "truncated" in text else "malformed"
        raise PncGarbled("charset" if "UTF-8" in text else reason) from error
    if reply.protocol != PROTOCOL:
        raise PncGarbled("malformed")
    if (reply.check, reply.attempt, reply.key_text) != (
        query.check,
        query.attempt,
        query.key_text,
    ):
        raise PncGarbled("echo")
    records = tuple(_record(each) for each in reply.records)
    says_found = {"trace": True, "no_trace": False, "too_many": False}.get(reply.result)
    if says_found is None or says_found != bool(records):
        raise PncGarbled("malformed")
    return PncAnswer(
        check=reply.check,
        attempt=reply.attempt,
        key_text=reply.key_text,
        records=records,
        blocks=tuple(
            Block(source=each.source, as_of_ms=_moment_ms(each.as_of), state=each.state)
            for each in reply.blocks
        ),
        as_of_ms=_moment_ms(reply.as_of),
        too_many=reply.result == "too_many",
        not_checked=tuple(reply.not_checked),
    )


def _record(raw: dict[str, Any]) -> PncRecord:
    """One record: member `record` says which kind; the rest is that kind's members."""
    values = dict(raw)
    values["@"] = values.pop("record", None)
    try:
        record: PncRecord = msgspec.convert(values, PncRecord)
    except msgspec.ValidationError as error:
        raise PncGarbled("malformed") from error
    return record


def _too_deep(body: bytes) -> bool:
    """Whether brackets could nest deeper than NESTING_MAX; brackets in texts count, too."""
    depth = deepest = 0
    for byte in re.findall(rb"[\[\]{}]", body):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest > NESTING_MAX


def _moment_ms(text: str) -> int:
    if not _MOMENT.fullmatch(text):
        _garbled()
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        _garbled()


def _garbled() -> NoReturn:
    raise PncGarbled("malformed")


def _moment_text(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
