"""Log-in by an identity provider: the flow, and each lie that a provider or a thief can tell."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters import oidc
from adapters.oidc import Provider
from gateway.errors import LogInRefused
from gateway.messages import Secret
from tests.services.scripted_idp import CLIENT, LIES, SECRET, ScriptedIdp

BACK = "http://127.0.0.1:1/login/callback"


def client(idp: ScriptedIdp, **changes: object) -> Provider:
    settings: dict[str, object] = {
        "issuer": idp.issuer,
        "client_id": CLIENT,
        "secret": Secret(SECRET),
        "redirect_url": BACK,
        "role_claim": "groups",
        "require_acr": "",
        "wall_s": time.time,
    }
    return Provider(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture
async def idp() -> AsyncIterator[ScriptedIdp]:
    async with ScriptedIdp(alg="ES256") as idp:
        yield idp


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_who_logs_in_there_is_known_here(alg: str) -> None:
    """Code, PKCE, state, nonce: the provider's word comes through with its groups."""
    async with ScriptedIdp(alg=alg) as idp:
        idp.subject, idp.groups = "sub-7", ["desk", "night"]
        ours = client(idp)
        url, ticket = await ours.begin()
        asked = parse_qs(urlsplit(url).query)
        assert asked["redirect_uri"] == [BACK]
        assert asked["code_challenge_method"] == ["S256"]
        who = await ours.finish(ticket, idp.approve(url))
    assert (who.subject, who.values) == ("sub-7", {"desk", "night"})


@pytest.mark.parametrize(("lie", "reason"), LIES.items())
async def test_no_lie_logs_anybody_in(idp: ScriptedIdp, lie: str, reason: str) -> None:
    """The truth passes first, so that it is the lie that is refused."""
    ours = client(idp)
    url, ticket = await ours.begin()
    await ours.finish(ticket, idp.approve(url))
    idp.lie = lie
    if lie == "nobody":
        idp.subject = ""
    url, ticket = await ours.begin()
    with pytest.raises(LogInRefused) as caught:
        await ours.finish(ticket, idp.approve(url))
    assert caught.value.reason == reason


async def test_a_code_of_another_try_logs_nobody_in(idp: ScriptedIdp) -> None:
    """Another's state, another's ticket, no ticket, one too old, one made up, a code used twice."""
    now = [1000.0]
    ours = client(idp, wall_s=lambda: now[0])
    mine, ticket = await ours.begin()
    theirs, other = await ours.begin()
    back = idp.approve(theirs)
    for bad, query in (
        (ticket, back),
        (other, {**back, "state": ""}),
        ("", back),
        (other[:-2] + "AA", back),
        ("AAAA." + other.partition(".")[2], back),
        (other, {name: value for name, value in back.items() if name != "code"}),
        (other, {**back, "error": "access_denied"}),
    ):
        with pytest.raises(LogInRefused):
            await ours.finish(bad, query)
    now[0] += oidc.TRY_S + 1
    with pytest.raises(LogInRefused, match="ticket"):
        await ours.finish(other, back)
    assert mine != theirs


async def test_a_stolen_code_is_worth_nothing_without_its_verifier(idp: ScriptedIdp) -> None:
    """PKCE: a thief who puts the code into a try of his own is refused by the provider."""
    ours = client(idp)
    stolen = idp.approve((await ours.begin())[0])
    url, ticket = await ours.begin()
    own = idp.approve(url)
    with pytest.raises(LogInRefused, match="provider"):
        await ours.finish(ticket, {**own, "code": stolen["code"]})


async def test_a_second_factor_may_be_required(idp: ScriptedIdp) -> None:
    ours = client(idp, require_acr="mfa")
    for acr in ("", "pwd", "mfa"):
        idp.acr = acr
        url, ticket = await ours.begin()
        assert parse_qs(urlsplit(url).query)["acr_values"] == ["mfa"]
        if acr == "mfa":
            assert (await ours.finish(ticket, idp.approve(url))).subject == "sub-1"
        else:
            with pytest.raises(LogInRefused, match="acr"):
                await ours.finish(ticket, idp.approve(url))


async def test_a_new_key_is_fetched_once_and_not_for_everybody(
    idp: ScriptedIdp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation at the provider is taken over; who makes up key names makes us ask no more often."""
    monkeypatch.setattr(oidc, "KEYS_AGAIN_S", 0.0)
    ours = client(idp)
    url, ticket = await ours.begin()
    await ours.finish(ticket, idp.approve(url))
    idp.rotate("k2")
    url, ticket = await ours.begin()
    await ours.finish(ticket, idp.approve(url))
    assert idp.key_fetches == 2
    monkeypatch.setattr(oidc, "KEYS_AGAIN_S", 3600.0)
    idp.lie = "stale key"
    for _ in range(3):
        url, ticket = await ours.begin()
        with pytest.raises(LogInRefused, match="key"):
            await ours.finish(ticket, idp.approve(url))
    assert idp.key_fetches == 2


async def test_a_provider_is_who_it_says_it_is(idp: ScriptedIdp) -> None:
    """The issuer in the discovery is ours, and what it names is safe to go to."""
    with pytest.raises(LogInRefused, match="issuer"):
        await client(idp, issuer=idp.issuer.replace("127.0.0.1", "localhost")).begin()
    with pytest.raises(LogInRefused, match="provider"):
        await client(idp, issuer="http://127.0.0.1:9").begin()
    ours = client(idp)
    assert not ours._safe("http://192.0.2.7/token")
    assert ours._safe("https://192.0.2.7/token")
