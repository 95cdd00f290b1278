"""Asking the running daemon over its own loopback API, for the command line."""

from __future__ import annotations

import json
import secrets

import aiohttp

from gateway.errors import LedgerUnavailable

WITHIN_S = 5.0


async def tell_export(url: str, *, instance: str, purpose: str, by: str) -> bool:
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
                json={"by": by, "purpose": purpose},
                headers={"Idempotency-Key": secrets.token_hex(8)},
                allow_redirects=False,
            ) as reply,
        ):
            body = json.loads(await reply.content.read(65536))
            if reply.status == 200 and body.get("instance") == instance:
                return True
            why = body.get("title", f"status {reply.status}")
    except aiohttp.ClientConnectorError:
        return False
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError):
        why = "what listens on the daemon's port does not answer as one"
    else:
        if reply.status == 200:
            why = "another instance listens on the port of this configuration"
    raise LedgerUnavailable(f"the export cannot be put on record: {why}")
