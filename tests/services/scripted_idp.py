"""An identity provider of our own that can lie: what a real one would not say, said on purpose.

It keeps the rules of the code flow (PKCE, one use a code, the client's secret) unless `lie` names
the one to break. `lies` are all there are; each must leave whoever tries logged out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

CLIENT, SECRET = "gateway", "client-secret-of-the-test"
LIES: dict[str, str] = {
    "nonce": "nonce",
    "no nonce": "nonce",
    "alg none": "signature",
    "HS256 with the public key": "signature",
    "other key": "signature",
    "other audience": "audience",
    "other party": "audience",
    "two audiences": "audience",
    "other issuer": "issuer",
    "mixed up": "issuer",
    "issuer left out": "issuer",
    "expired": "expired",
    "issued tomorrow": "expired",
    "long ago": "expired",
    "not yet": "expired",
    "no end": "expired",
    "stale key": "key",
    "no key named": "key",
    "at_hash": "signature",
    "redirect": "provider",
    "huge": "provider",
    "no json": "provider",
    "nobody": "subject",
}
"""Lie -> the reason for which it is refused."""


class ScriptedIdp:
    """Use `async with`. `subject` and `groups` are of whoever logs in next."""

    def __init__(
        self,
        *,
        alg: str = "RS256",
        wall_s: Callable[[], float] = time.time,
        name: str = "127.0.0.1",
    ) -> None:
        """name: of loopback, by which it is called; `localhost` is another site to browsers."""
        self.name = name
        self.alg = alg
        self.lie = ""
        self.subject = "sub-1"
        self.groups: list[str] = []
        self.acr = ""
        self.tells_issuer = True
        self.key_fetches = 0
        self.key = self._made("k1")
        self.issuer = ""
        self._wall_s = wall_s
        self._codes: dict[str, dict[str, str]] = {}
        self._runner: web.AppRunner | None = None

    def _made(self, kid: str) -> RSAKey | ECKey:
        if self.alg == "ES256":
            return ECKey.generate_key("P-256", {"kid": kid})
        return RSAKey.generate_key(2048, {"kid": kid})

    def rotate(self, kid: str) -> None:
        """A new key; the old one is published no more."""
        self.key = self._made(kid)

    async def __aenter__(self) -> ScriptedIdp:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.issuer = f"http://{self.name}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        type_: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    # ------------------------------------------------------------------ the browser's part

    def approve(self, url: str) -> dict[str, str]:
        """Somebody logs in at `url`: the query with which the browser comes back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        back = {"code": code, "state": asked["state"]}
        if self.tells_issuer and self.lie != "issuer left out":
            back["iss"] = "https://evil.example" if self.lie == "mixed up" else self.issuer
        return back

    async def _authorize(self, request: web.Request) -> web.Response:
        """For a real browser: a page of ours, with a way back for who approves."""
        back = self.approve(str(request.url))
        there = f"{request.query['redirect_uri']}?{urlencode(back)}"
        page = f'<!doctype html><title>idp</title><a href="{html.escape(there)}">Approve</a>'
        return web.Response(text=page, content_type="text/html")

    # ------------------------------------------------------------------ the client's part

    async def _discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "authorization_response_iss_parameter_supported": self.tells_issuer,
            }
        )

    async def _keys(self, _request: web.Request) -> web.Response:
        self.key_fetches += 1
        return web.json_response(KeySet([self.key]).as_dict(private=False))

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {basic}":
            return web.json_response({"error": "invalid_client"}, status=401)
        asked = self._codes.pop(str(form.get("code")), None)
        verifier = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
        if (
            asked is None
            or asked.get("code_challenge_method") != "S256"
            or asked.get("code_challenge") != challenge
            or form.get("redirect_uri") != asked["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        if self.lie == "redirect":
            raise web.HTTPTemporaryRedirect("http://evil.example/token")
        if self.lie == "huge":
            return web.Response(text='{"id_token": "' + "x" * 200_000 + '"}')
        if self.lie == "no json":
            return web.Response(text="<html>")
        return web.json_response({"id_token": self._id_token(asked), "access_token": "at-1"})

    def _id_token(self, asked: dict[str, str]) -> str:
        now = self._wall_s()
        half = hashlib.sha256(b"at-1").digest()[:16]
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": self.subject,
            "exp": now + 300,
            "iat": now,
            "nbf": now,
            "nonce": asked["nonce"],
            "groups": self.groups,
            "at_hash": base64.urlsafe_b64encode(half).decode().rstrip("="),
        }
        if self.acr:
            claims["acr"] = self.acr
        changes: dict[str, dict[str, Any]] = {
            "nonce": {"nonce": "another"},
            "no nonce": {"nonce": None},
            "other audience": {"aud": "somebody-else"},
            "other party": {"azp": "somebody-else"},
            "two audiences": {"aud": [CLIENT, "somebody-else"]},
            "other issuer": {"iss": "https://evil.example"},
            "expired": {"exp": now - 3600},
            "issued tomorrow": {"iat": now + 86_400},
            "long ago": {"iat": now - 86_400},
            "not yet": {"nbf": now + 3600},
            "no end": {"exp": None},
            "at_hash": {"at_hash": "AAAA"},
            "nobody": {"sub": ""},
        }
        claims |= changes.get(self.lie, {})
        return self._signed({name: value for name, value in claims.items() if value is not None})

    def _signed(self, claims: dict[str, Any]) -> str:
        kid = str(self.key.kid)
        if self.lie == "alg none":
            return f"{_part({'alg': 'none', 'kid': kid})}.{_part(claims)}."
        if self.lie == "HS256 with the public key":
            said = f"{_part({'alg': 'HS256', 'kid': kid})}.{_part(claims)}"
            mac = hmac.digest(self.key.as_pem(private=False), said.encode(), hashlib.sha256)
            return f"{said}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        if self.lie == "other key":
            return jwt.encode({"alg": self.alg, "kid": kid}, claims, self._made(kid))
        if self.lie == "stale key":
            return jwt.encode({"alg": self.alg, "kid": "k0"}, claims, self.key)
        if self.lie == "no key named":
            return jws.serialize_compact(
                {"alg": self.alg}, _json(claims), self.key, algorithms=[self.alg]
            )
        return jwt.encode({"alg": self.alg, "kid": kid}, claims, self.key)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(_json(value)).decode().rstrip("=")
