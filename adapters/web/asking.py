"""Asking the running daemon over its own loopback API, for the command line."""

from __future__ import annotations

import json
import secrets

import aiohttp

from gateway.errors import LedgerUnavailable

WITHIN_S = 5.0
NO_DAEMON = "what listens on the daemon's port does not answer as one"
TITLE_MOST = 200


async def tell_export(url: str, *, instance: str, purpose: str, by: str, receipt: str = "") -> bool:
    """Have the daemon put an audit export on record. False: nobody listens there.

    Raises LedgerUnavailable when it could not, or when another instance answers: an export must
    stand in the log that it takes from.
    """
    timeout = aiohttp.ClientTimeout(total=WITHIN_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as http,
            http.post(
                f"{url}/api/v1/export",
                json={"by": by, "purpose": purpose} | ({"receipt": receipt} if receipt else {}),
                headers={"Idempotency-Key": secrets.token_hex(8)},
                allow_redirects=False,
            ) as reply,
        ):
            why = refusal(reply.status, await reply.content.read(65536), instance)
    except aiohttp.ClientConnectorError:
        return False
    except (aiohttp.ClientError, TimeoutError):
        why = NO_DAEMON
    if not why:
        return True
    raise LedgerUnavailable(f"the export cannot be put on record: {why}")


def refusal(status: int, body: bytes, instance: str) -> str:
    """Why this reply does not say that the export is on record; empty when it does. Pure.

    Who listens may be anybody: of his words only one printable line is shown.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return NO_DAEMON
    if not isinstance(said, dict):
        return NO_DAEMON
    if status == 200:
        if said.get("instance") == instance:
            return ""
        return "another instance listens on the port of this configuration"
    title = said.get("title")
    if isinstance(title, str) and title.isprintable() and 0 < len(title) <= TITLE_MOST:
        return title
    return f"status {status}"
