"""A real OpenID Connect provider on loopback: glewlwyd, set up through its own API.

One client (us, confidential, code with PKCE alone), one person. Everything lies in the test's
folder; what the package installs elsewhere is read, never run.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.services import free_port, require

CLIENT, SECRET = "gateway", "client-secret-of-the-test"
PERSON, PASSWORD = "ann", "correct horse battery staple"
ADMIN = {"username": "admin", "password": "password"}
"""As its own tables begin; here it is nobody's."""
TABLES = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
MODULES = "/usr/lib/glewlwyd"
UP_WITHIN_S = 20.0


class Glewlwyd:
    """redirect_url: of the client. Use `running`."""

    def __init__(self, folder: Path, redirect_url: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.issuer = f"{self.url}/api/oidc"
        self._redirect_url = redirect_url
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = require("glewlwyd")
        with contextlib.closing(sqlite3.connect(self.folder / "idp.db")) as db:
            db.executescript(TABLES.read_text("utf-8"))
        modules = {
            "user_module_path": "user",
            "client_module_path": "client",
            "user_auth_scheme_module_path": "scheme",
            "plugin_module_path": "plugin",
        }
        lines = [
            f"port={self.port}",
            'bind_address="127.0.0.1"',
            f'external_url="{self.url}"',
            'login_url="login.html"',
            'api_prefix="api"',
            'log_mode="file"',
            'log_level="ERROR"',
            f'log_file="{self.folder / "idp.log"}"',
            "cookie_secure=0",
            'session_key="IDP"',
            'admin_session_authentication="cookie"',
            'profile_session_authentication="cookie"',
            "login_api_enabled=true",
            "max_post_size=16778240",
            'admin_scope="g_admin"',
            'profile_scope="g_profile"',
            *(f'{key}="{MODULES}/{name}"' for key, name in modules.items()),
            "use_secure_connection=false",
            *(f'secure_connection_{key}_file="none"' for key in ("key", "pem", "ca")),
            'hash_algorithm="SHA512"',
            f'database = {{ type = "sqlite3"; path = "{self.folder / "idp.db"}"; }};',
        ]
        config = self.folder / "idp.conf"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        with (self.folder / "idp.out").open("wb") as out:
            self._process = subprocess.Popen(
                [program, f"--config-file={config}"], stdout=out, stderr=out
            )

    async def set_up(self) -> None:
        """Wait for it, then make key, client and person. AssertionError with its words if not."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(self.url, cookie_jar=jar) as http:
            until_s = time.monotonic() + UP_WITHIN_S
            while True:
                assert self._process is not None
                assert self._process.poll() is None, (self.folder / "idp.out").read_text()
                try:
                    await self._made(http, "/api/auth/", ADMIN)
                except aiohttp.ClientError:
                    assert time.monotonic() < until_s, "glewlwyd does not come up"
                    continue
                break
            await self._made(http, "/api/mod/plugin/", self._plugin())
            await self._made(http, "/api/client/", self._client())
            person = {"username": PERSON, "password": PASSWORD, "scope": ["openid"]}
            await self._made(http, "/api/user/", {**person, "enabled": True})
        async with self._person() as http:
            path = f"{self.url}/api/auth/grant/{CLIENT}"
            async with http.put(path, json={"scope": "openid"}) as answer:
                assert answer.status == 200, path

    async def approve(self, url: str) -> str:
        """The person logs in there and agrees: where their browser is sent."""
        async with (
            self._person() as http,
            http.get(f"{url}&g_continue", allow_redirects=False) as answer,
        ):
            assert answer.status == 302, (answer.status, await answer.text())
            return answer.headers["Location"]

    @contextlib.asynccontextmanager
    async def _person(self) -> AsyncIterator[aiohttp.ClientSession]:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            known = {"username": PERSON, "password": PASSWORD}
            async with http.post(f"{self.url}/api/auth/", json=known) as answer:
                assert answer.status == 200
            yield http

    async def _made(self, http: aiohttp.ClientSession, path: str, what: dict[str, Any]) -> None:
        async with http.post(path, json=what) as answer:
            assert answer.status == 200, (path, await answer.text())

    def _plugin(self) -> dict[str, Any]:
        key = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
        public = subprocess.run(
            ["openssl", "rsa", "-pubout"], input=key, capture_output=True, check=True
        ).stdout
        settings = {
            "iss": self.issuer,
            "jwt-type": "rsa",
            "jwt-key-size": "256",
            "key": key.decode(),
            "cert": public.decode(),
            "access-token-duration": 3600,
            "refresh-token-duration": 3600,
            "code-duration": 60,
            "refresh-token-rolling": True,
            "allow-non-oidc": False,
            "auth-type-code-enabled": True,
            "auth-type-id-token-enabled": True,
            "subject-type": "public",
            "pkce-allowed": True,
            "pkce-required": True,
            "jwks-show": True,
        }
        return {"module": "oidc", "name": "oidc", "display_name": "oidc", "parameters": settings}

    def _client(self) -> dict[str, Any]:
        return {
            "client_id": CLIENT,
            "name": CLIENT,
            "confidential": True,
            "password": SECRET,
            "redirect_uri": [self._redirect_url],
            "authorization_type": ["code"],
            "scope": [],
            "enabled": True,
            "token_endpoint_auth_method": ["client_secret_basic"],
        }

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.asynccontextmanager
async def running(folder: Path, redirect_url: str) -> AsyncIterator[Glewlwyd]:
    provider = Glewlwyd(folder, redirect_url)
    provider.start()
    try:
        await provider.set_up()
        yield provider
    finally:
        provider.kill()
