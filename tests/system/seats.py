"""Who may log in to the daemons of the tests, and how a program does."""

from __future__ import annotations

import os
import re

import aiohttp
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

PASSWORD = "correct horse battery staple"
ACCOUNTS = {
    "op-1": "operator",
    "op-2": "operator",
    "sup-1": "supervisor",
    "aud-1": "auditor",
    "ops-1": "ops",
}
_LITTLE = Argon2id(salt=os.urandom(16), length=32, iterations=1, lanes=1, memory_cost=8)
"""Real, and cheap: these accounts are nobody's."""
_STORED = _LITTLE.derive_phc_encoded(PASSWORD.encode())
OPERATORS = "".join(
    f'\n[[operators]]\nid = "{id_}"\nroles = ["{role}"]\npassword = "{_STORED}"\n'
    for id_, role in ACCOUNTS.items()
)
"""At the end of a people file."""
_COOKIE = re.compile(r"__Host-gw=([A-Za-z0-9_-]+);")


async def log_in(url: str, who: str = "op-1", password: str = PASSWORD) -> dict[str, str]:
    """The headers of a new session: its cookie (which no library sends over plain HTTP, being
    `Secure`; browsers do on loopback) and its CSRF token."""
    body = {"id": who, "password": password}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/api/v1/login", json=body) as said:
        assert said.status == 200, (said.status, await said.text())
        found = _COOKIE.search(said.headers["Set-Cookie"])
        assert found is not None
        token = (await said.json())["csrf"]
    return {"Cookie": f"__Host-gw={found[1]}", "X-CSRF-Token": token}
