"""Log-in by an identity provider: OpenID Connect, authorization code with PKCE.

Nothing that the provider or the browser says is taken on trust: issuer, audience, nonce, signature
and times are checked, algorithms come from a list of ours and never from the token, no redirect is
followed, every answer is bounded and has a deadline. What belongs to one try lies in the browser's
own cookie, under our MAC: a crowd that only begins costs no memory (OWASP, OpenID Connect Core
3.1.3.7, RFC 9207 for mixed-up providers).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from gateway.errors import LogInRefused
from gateway.messages import Secret
from gateway.ports import Identity

T = TypeVar("T")

ALGORITHMS = ["RS256", "ES256", "EdDSA"]
WITHIN_S = 5.0
REPLY_MOST = 65_536
TRY_S = 600.0
"""So long somebody may take at the provider."""
SKEW_S = 30
KEYS_AGAIN_S = 30.0
"""A token with a key that we do not know makes us ask for the keys at most so often."""
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
WELL_KNOWN = "/.well-known/openid-configuration"


class _Metadata(msgspec.Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Tokens(msgspec.Struct):
    id_token: str
    access_token: str = ""


class _Try(msgspec.Struct):
    """What of one try stays with the browser."""

    state: str
    nonce: str
    verifier: str
    at_s: float


class Provider:
    """One identity provider, and us as its client. `secret` None: a public client."""

    def __init__(
        self,
        *,
        issuer: str,
        client_id: str,
        secret: Secret | None,
        redirect_url: str,
        role_claim: str,
        require_acr: str,
        wall_s: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._secret = secret
        self._redirect_url = redirect_url
        self._role_claim = role_claim
        self._require_acr = require_acr
        self._wall_s = wall_s
        self._mac_key = secrets.token_bytes(32)
        self._metadata: _Metadata | None = None
        self._keys: KeySet | None = None
        self._keys_at_s = float("-inf")

    # ------------------------------------------------------------------ two steps

    async def begin(self) -> tuple[str, str]:
        """Where to send the browser, and the ticket that it must bring back."""
        metadata = await self._discovered()
        tried = _Try(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            at_s=self._wall_s(),
        )
        challenge = _base64url(hashlib.sha256(tried.verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_url,
            "scope": "openid",
            "state": tried.state,
            "nonce": tried.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if self._require_acr:
            query["acr_values"] = self._require_acr
        mark = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{mark}{urlencode(query)}", self._sealed(tried)

    async def finish(self, ticket: str, query: Mapping[str, str]) -> Identity:
        """Who came back. Raises LogInRefused."""
        tried = self._unsealed(ticket)
        if not hmac.compare_digest(query.get("state", "").encode(), tried.state.encode()):
            raise LogInRefused("state")
        metadata = await self._discovered()
        said = query.get("iss")
        required = metadata.authorization_response_iss_parameter_supported
        if (said is not None or required) and said != self._issuer:
            raise LogInRefused("issuer")
        if "error" in query or not query.get("code"):
            raise LogInRefused("provider")
        tokens = await self._exchanged(metadata, query["code"], tried.verifier)
        return self._identity(await self._verified(metadata, tokens), tokens, tried)

    # ------------------------------------------------------------------ the ticket

    def _sealed(self, tried: _Try) -> str:
        body = _base64url(msgspec.json.encode(tried))
        return f"{body}.{_base64url(self._mac(body))}"

    def _unsealed(self, ticket: str) -> _Try:
        body, _, mac = ticket.partition(".")
        if not hmac.compare_digest(mac.encode(), _base64url(self._mac(body)).encode()):
            raise LogInRefused("ticket")
        tried = msgspec.json.decode(_from_base64url(body), type=_Try)
        if not 0 <= self._wall_s() - tried.at_s <= TRY_S:
            raise LogInRefused("ticket")
        return tried

    def _mac(self, body: str) -> bytes:
        return hmac.digest(self._mac_key, body.encode(errors="surrogatepass"), hashlib.sha256)

    # ------------------------------------------------------------------ what the token says

    async def _verified(self, metadata: _Metadata, tokens: _Tokens) -> dict[str, Any]:
        kid = _kid(tokens.id_token)
        keys = await self._known_keys(metadata, kid)
        try:
            # The list is ours: neither `none` nor an HMAC by the public key is on it.
            token = jwt.decode(tokens.id_token, keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError, TypeError) as error:
            raise LogInRefused("signature") from error
        return dict(token.claims)

    def _identity(self, claims: dict[str, Any], tokens: _Tokens, tried: _Try) -> Identity:
        now_s = self._wall_s()
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        subject, nonce = claims.get("sub"), claims.get("nonce")
        if claims.get("iss") != self._issuer:
            raise LogInRefused("issuer")
        if not isinstance(audiences, list) or self._client_id not in audiences:
            raise LogInRefused("audience")
        if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != self._client_id:
            raise LogInRefused("audience")
        if not isinstance(nonce, str) or not hmac.compare_digest(
            nonce.encode(errors="surrogatepass"), tried.nonce.encode()
        ):
            raise LogInRefused("nonce")
        expires_s, issued_s = _figure(claims, "exp"), _figure(claims, "iat")
        if expires_s is None or expires_s <= now_s - SKEW_S:
            raise LogInRefused("expired")
        if issued_s is None or not now_s - TRY_S - SKEW_S <= issued_s <= now_s + SKEW_S:
            raise LogInRefused("expired")
        if (_figure(claims, "nbf") or 0) > now_s + SKEW_S:
            raise LogInRefused("expired")
        if "at_hash" in claims and claims["at_hash"] != _half(tokens):
            raise LogInRefused("signature")
        if self._require_acr and claims.get("acr") != self._require_acr:
            raise LogInRefused("acr")
        if not isinstance(subject, str) or not 1 <= len(subject) <= 255:
            raise LogInRefused("subject")
        values = claims.get(self._role_claim)
        listed = [values] if isinstance(values, str) else values
        texts = listed if isinstance(listed, list) else []
        return Identity(subject, frozenset(each for each in texts if isinstance(each, str)))

    # ------------------------------------------------------------------ asking the provider

    async def _discovered(self) -> _Metadata:
        if self._metadata is None:
            said = await self._get(self._issuer.rstrip("/") + WELL_KNOWN, _Metadata)
            if said.issuer != self._issuer:
                raise LogInRefused("issuer")
            for url in (said.authorization_endpoint, said.token_endpoint, said.jwks_uri):
                if not self._safe(url):
                    raise LogInRefused("provider")
            self._metadata = said
        return self._metadata

    def _safe(self, url: str) -> bool:
        """https; or, with a provider on loopback, loopback as well."""
        parts = urlsplit(url)
        own = urlsplit(self._issuer)
        return parts.scheme == "https" or (
            own.scheme == parts.scheme == "http" and parts.hostname in LOOPBACK
        )

    async def _known_keys(self, metadata: _Metadata, kid: str) -> KeySet:
        """Those that have this one. Asked for again when it is new, but not by whoever likes."""
        now_s = asyncio.get_running_loop().time()
        if not _has(self._keys, kid) and now_s - self._keys_at_s >= KEYS_AGAIN_S:
            self._keys_at_s = now_s
            said = await self._get(metadata.jwks_uri, dict[str, Any])
            try:
                self._keys = KeySet.import_key_set(said)  # type: ignore[arg-type]
            except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise LogInRefused("provider") from error
        if self._keys is None or not _has(self._keys, kid):
            raise LogInRefused("key")
        return self._keys

    async def _exchanged(self, metadata: _Metadata, code: str, verifier: str) -> _Tokens:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "code_verifier": verifier,
            "client_id": self._client_id,
        }
        headers = {}
        if self._secret is not None:
            if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
                pair = (quote(self._client_id, safe=""), quote(self._secret.reveal(), safe=""))
                headers["Authorization"] = aiohttp.encode_basic_auth(*pair)
            else:
                form["client_secret"] = self._secret.reveal()
        return await self._asked(
            "POST", metadata.token_endpoint, _Tokens, form=form, headers=headers
        )

    async def _get(self, url: str, type_: type[T]) -> T:
        return await self._asked("GET", url, type_)

    async def _asked(
        self,
        method: str,
        url: str,
        type_: type[T],
        *,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> T:
        timeout = aiohttp.ClientTimeout(total=WITHIN_S)
        http = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        try:
            async with (
                http,
                http.request(
                    method, url, data=form, headers=headers, allow_redirects=False
                ) as reply,
            ):
                body = await _bounded(reply)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LogInRefused("provider") from error
        if reply.status != 200:
            raise LogInRefused("provider")
        try:
            return msgspec.json.decode(body, type=type_)
        except (msgspec.DecodeError, RecursionError) as error:
            raise LogInRefused("provider") from error


async def _bounded(reply: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in reply.content.iter_chunked(16_384):
        size += len(part)
        if size > REPLY_MOST:
            raise LogInRefused("provider")
        parts.append(part)
    return b"".join(parts)


def _has(keys: KeySet | None, kid: str) -> bool:
    return keys is not None and any(each.kid == kid for each in keys.keys)


def _kid(token: str) -> str:
    """Which key the token names; it must name one."""
    try:
        head = msgspec.json.decode(_from_base64url(token.split(".")[0]))
    except (ValueError, RecursionError):
        raise LogInRefused("signature") from None
    kid = head.get("kid") if isinstance(head, dict) else None
    if not isinstance(kid, str):
        raise LogInRefused("key")
    return kid


def _figure(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) and value is not True else None


def _half(tokens: _Tokens) -> str:
    """at_hash: the left half of the access token's digest; our algorithms all go with SHA-256,
    but for EdDSA with Ed25519, which goes with SHA-512."""
    head = msgspec.json.decode(_from_base64url(tokens.id_token.split(".")[0]))
    digest = hashlib.sha512 if head.get("alg") == "EdDSA" else hashlib.sha256
    whole = digest(tokens.access_token.encode()).digest()
    return _base64url(whole[: len(whole) // 2])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
