"""Who may log in to the real daemon: accounts by the command line, TLS, a crash, a reload."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from adapters.oidc import Provider
from gateway.messages import Secret
from tests.services import glewlwyd
from tests.services.pki import Pki
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import audit


async def command(*words: str) -> tuple[int, str, str]:
    """radio-gateway with these words: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    return process.returncode or 0, out.decode(), errors.decode()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    await daemon.close()


def sessions(daemon: Daemon) -> list[str]:
    """What is on record of sessions, without their names."""
    leaves = [leaf for leaf in audit(daemon.state) if leaf["event"] == "session"]
    return [f"{leaf['operator']}: {leaf['detail'].partition(' (')[0]}" for leaf in leaves]


@pytest.mark.slow
async def test_an_account_is_made_used_revoked_and_over(daemon: Daemon) -> None:
    """By the command line, taken over by SIGHUP; struck off, its session is over at once. The
    session outlives a kill; its password and token stand in no file of the daemon's."""
    config = ("--config", str(daemon.config))
    await daemon.start()
    code, out, errors = await command("account", "add", "ann", "--role", "supervisor", *config)
    assert code == 0, errors
    password = out.strip()
    assert len(password) >= 16
    assert "not shown again" in errors
    code, out, errors = await command("account", "add", "ann", "--role", "ops", *config)
    assert (code, out) == (78, "")
    assert "stands twice" in errors
    os.kill(daemon.pid, signal.SIGHUP)
    await until(lambda: any(line["event"] == "config.loaded" for line in daemon.journal()))
    ann = await daemon.log_in("ann", password)
    assert (await daemon.get("/api/v1/me", "ann"))[0] == 200
    await daemon.kill()
    await daemon.start()
    async with aiohttp.ClientSession(headers=ann) as http:
        async with http.get(f"{daemon.url}/api/v1/me") as answer:
            assert (answer.status, (await answer.json())["roles"]) == (200, ["supervisor"])
        people = daemon.folder / "people.toml"
        text = people.read_text("utf-8")
        assert password not in text
        people.write_text(f"{text}revoked = true\n", "utf-8")
        before = len(daemon.journal())
        os.kill(daemon.pid, signal.SIGHUP)
        await until(
            lambda: any(line["event"] == "config.loaded" for line in daemon.journal()[before:])
        )
        async with http.get(f"{daemon.url}/api/v1/me") as answer:
            assert answer.status == 401
    await until(lambda: "ann: ended: entry changed" in sessions(daemon))
    assert sessions(daemon) == ["ann: log-in local", "ann: ended: entry changed"]
    assert await daemon.stop() == 0
    token = re.search(r"__Host-gw=(.+)", ann["Cookie"])
    assert token is not None
    for path in (*daemon.state.iterdir(), daemon.output, daemon.errors):
        held = path.read_bytes() if path.is_file() else b""
        assert password.encode() not in held, path.name
        assert token[1].encode() not in held, path.name


@pytest.mark.slow
async def test_off_loopback_over_tls_and_the_command_line_finds_it(tmp_path: Path) -> None:
    """Without TLS: 78. With it: on every address, a log-in, and an export on record by the host's
    token, which speaks to no other certificate."""
    pki = Pki(tmp_path / "pki")
    pki.issue("page")
    http = {"cert_file": pki.path("page.crt"), "key_file": pki.path("page.key"), "host": "0.0.0.0"}
    daemon = Daemon(tmp_path, sections={"http": http})
    try:
        await daemon.start(wait=False)
        here = ssl.create_default_context(cafile=pki.path("ca.crt"))
        url = f"https://127.0.0.1:{daemon.port}"
        async with aiohttp.ClientSession() as browser:

            async def ready() -> bool:
                try:
                    async with browser.get(f"{url}/readyz", ssl=here) as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            async with asyncio.timeout(60):
                while not await ready():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            body: dict[str, Any] = {"id": "op-1", "password": "wrong"}
            async with browser.post(f"{url}/api/v1/login", json=body, ssl=here) as answer:
                assert answer.status == 401
        export = ("audit", "export", "--config", str(daemon.config), "--purpose", "lawfulness")
        code, out, errors = await command(*export, "--by", "root")
        assert code == 0, errors
        assert '"operator":"cli:root"' in out.splitlines()[-1].replace(" ", "")
        assert (daemon.state / "host.token").stat().st_mode & 0o777 == 0o600
        other = Pki(tmp_path / "other")
        other.issue("page")
        shutil.copy(other.path("page.crt"), pki.path("page.crt"))
        code, _, errors = await command(*export)
        assert code == 1
        assert "does not answer as one" in errors
        assert await daemon.stop() == 0
        assert not (daemon.state / "host.token").exists()
    finally:
        await daemon.close()


@pytest.mark.slow
async def test_a_real_provider_says_who_it_is(tmp_path: Path) -> None:
    """glewlwyd: first our client alone, which learns the person's `sub`; then the daemon, which
    lets in whom the people file knows by it, and nobody with a code of another try."""
    daemon = Daemon(tmp_path)
    back = f"{daemon.url}/login/callback"
    async with glewlwyd.running(tmp_path / "idp", back) as idp:
        ours = Provider(
            issuer=idp.issuer,
            client_id=glewlwyd.CLIENT,
            secret=Secret(glewlwyd.SECRET),
            redirect_url=back,
            role_claim="groups",
            require_acr="",
            wall_s=time.time,
        )
        url, ticket = await ours.begin()
        query = dict(parse_qsl(urlsplit(await idp.approve(url)).query))
        subject = (await ours.finish(ticket, query)).subject
        secret = tmp_path / "client.secret"
        secret.write_text(glewlwyd.SECRET, "utf-8")
        auth = {
            "mode": "oidc",
            "issuer": idp.issuer,
            "client_id": glewlwyd.CLIENT,
            "client_secret_file": str(secret),
            "redirect_url": back,
        }
        daemon = Daemon(tmp_path, port=daemon.port, sections={"auth": auth})
        with daemon.people.open("a", encoding="utf-8") as people:
            people.write(
                f'\n[[operators]]\nid = "ann"\nroles = ["auditor"]\nsubject = "{subject}"\n'
            )
        try:
            await daemon.start()
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
                async with http.get(f"{daemon.url}/login/provider", allow_redirects=False) as sent:
                    ticket = sent.headers["Set-Cookie"].partition(";")[0]
                    there = await idp.approve(sent.headers["Location"])
                for brought, status in (("", 403), (ticket, 200), (ticket, 403)):
                    cookie = {"Cookie": brought} if brought else {}
                    async with http.get(there, headers=cookie) as answer:
                        assert answer.status == status, (brought, await answer.text())
                        if status == 200:
                            given = answer.headers.getall("Set-Cookie")[0].partition(";")[0]
                seat = {"Cookie": given}
                async with http.get(f"{daemon.url}/api/v1/me", headers=seat) as answer:
                    me = await answer.json()
            assert (me["id"], me["roles"]) == ("ann", ["auditor"])
            await until(lambda: "ann: log-in oidc" in sessions(daemon))
        finally:
            await daemon.close()
