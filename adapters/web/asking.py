"""Asking the running daemon over its own API, for the command line on its machine.

It shows the token that the daemon made at its start and that only its own user can read. Whoever
else listens on that port gets one that no daemon takes any more; over TLS not even that, since only
the configured certificate is spoken to.
"""

from __future__ import annotations

import json
import secrets

import aiohttp

from adapters.web.gate import BY
from gateway.errors import LedgerUnavailable
from gateway.messages import Secret

WITHIN_S = 5.0
NO_DAEMON = "what listens on the daemon's port does not answer as one"
TITLE_MOST = 200


async def tell_export(
    url: str,
    *,
    instance: str,
    purpose: str,
    by: str,
    token: Secret | None,
    pinned: bytes | None = None,
    receipt: str = "",
) -> bool:
    """Have the daemon put an audit export on record. False: nobody listens there.

    token: the daemon's for this host. pinned: SHA-256 of the certificate that must answer.

    Raises LedgerUnavailable when it could not, or when another instance answers: an export must
    stand in the log that it takes from.
    """
    timeout = aiohttp.ClientTimeout(total=WITHIN_S)
    headers = {"Idempotency-Key": secrets.token_hex(8), BY: by}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.reveal()}"
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as http,
            http.post(
                f"{url}/api/v1/export",
                json={"purpose": purpose} | ({"receipt": receipt} if receipt else {}),
                headers=headers,
                allow_redirects=False,
                ssl=aiohttp.Fingerprint(pinned) if pinned is not None else True,
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
