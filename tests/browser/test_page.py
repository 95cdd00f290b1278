"""The page in a real Chromium: what an operator sees is what the board says, and silence shows."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from adapters.codecs import keysds
from adapters.observers.prometheus import PrometheusMeter
from adapters.oidc import Provider
from adapters.web import WebServer
from gateway.messages import (
    CheckNow,
    CheckStaged,
    LinkState,
    Outcome,
    Secret,
    UnitEmergency,
)
from tests.adapters.web.board import FakeBoard, alarm, done, fix, link, opened, unit
from tests.adapters.web.seats import PASSWORD, web_server
from tests.services import require_chromium
from tests.services.scripted_idp import CLIENT, SECRET, ScriptedIdp

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<img src=x onerror=document.title='owned'>\u202ePAWNED\u0007"


class RealClock:
    counter = ""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Desk:
    """Server, board and an open page; every complaint of the browser is kept."""

    def __init__(self, server: WebServer, board: FakeBoard, page: Page, url: str) -> None:
        self.server, self.board, self.page, self.url = server, board, page, url
        self.complaints: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    async def open(self) -> None:
        await log_in(self.page, self.url, "operator", PASSWORD)
        await expect(self.page.locator("#feed-word")).to_have_text("LIVE")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "profile"


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    path = require_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=ARGUMENTS, env={"HOME": str(folder)}
        )
        try:
            yield browser
        finally:
            await browser.close()


async def log_in(page: Page, url: str, id_: str, password: str) -> None:
    """As an operator does: the page sends them to the log-in, and from there they come back."""
    await page.goto(url)
    await page.locator("#id").fill(id_)
    await page.locator("#password").fill(password)
    await page.keyboard.press("Enter")


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    clock = RealClock()
    board = FakeBoard(clock)
    meter = PrometheusMeter(links={}, areas=("S",), agencies=("po",), strict=True)
    server = web_server(board, meter=meter, parse=keysds.parse)
    url = await server.start()
    try:
        async with chromium(folder) as browser:
            page = await browser.new_page(viewport={"width": 1600, "height": 900})
            page.set_default_timeout(10_000)
            yield Desk(server, board, page, url)
    finally:
        await server.stop()


def fill(board: FakeBoard) -> None:
    """A shift: fresh, old and unknown positions, checks of every end, links up and down."""
    now_ms = board.clock.wall_ms()
    for n, age_s in enumerate([3.0, 95.0, 400.0, 1000.0, None]):
        made = unit(f"400{n}", f"S-21{n}", age_s=None)
        if age_s is not None:
            moment = fix(f"400{n}", age_s=age_s, now_ms=now_ms)
            made = msgspec.structs.replace(made, fix=moment, contact_ms=now_ms)
        board.units.append(made)
    ends = {
        "C7F1": done("C7F1", t_ms=now_ms),
        "C7F2": done("C7F2", result_class="NO_TRACE", danger=(), t_ms=now_ms - 1000),
        "C7F3": done(
            "C7F3",
            outcome=Outcome.EXPIRED,
            result_class="TIMEOUT",
            danger=(),
            cause="PNC NO REPLY",
            t_ms=now_ms - 2000,
        ),
        "C7F4": done(
            "C7F4",
            outcome=Outcome.FAILED,
            result_class="UNAVAILABLE",
            danger=(),
            cause="PNC LINK DOWN",
            t_ms=now_ms - 3000,
        ),
        "C7F5": done(
            "C7F5",
            outcome=Outcome.REFUSED,
            result_class="DENIED",
            danger=(),
            cause="NOT YOUR ROLE",
            t_ms=now_ms - 4000,
        ),
    }
    for short, ended in ends.items():
        board.checks.append(
            CheckNow(opened(short, now_ms=now_ms - 5000), "done", ended, delivery="read")
        )
    board.checks.append(CheckNow(opened("C7F9", "4001", now_ms=now_ms - 9000), "pnc"))
    board.alarms = {
        "A1": msgspec.structs.replace(alarm(), terminal="4000", raised_ms=now_ms - 4000),
        "A2": msgspec.structs.replace(
            alarm("A2", "ack-active", "PNC"), priority=2, ack_by="PC 7", raised_ms=now_ms - 60_000
        ),
    }
    board.links = [
        msgspec.structs.replace(link(), since_ms=now_ms - 3_600_000),
        msgspec.structs.replace(
            link("mqtt-city", LinkState.DOWN), kind="mqtt", since_ms=now_ms - 30_000
        ),
    ]


async def test_the_page_shows_what_the_board_says_and_what_happens(folder: Path) -> None:
    """Units with the age of their fix, checks with stage and outcome words, links, alarms; then
    live changes; an alarm is acknowledged by name; the browser has nothing to complain about."""
    async with desk(folder) as here:
        page, board = here.page, here.board
        fill(board)
        await here.open()
        rows = page.locator("#unit-rows tr")
        for callsign, says in {
            "S-210": r"● [0-9]+ s",
            "S-211": r"◐ .* aging",
            "S-212": r"○ .* STALE",
            "S-213": r"× .* LOST",
            "S-214": r"no position",
        }.items():
            await expect(rows.filter(has_text=callsign)).to_contain_text(re.compile(says))
        checks = page.locator("#check-rows tr")
        await expect(checks.filter(has_text="C7F1")).to_contain_text("WEAPONSHIT: CRITICAL WARNING")
        await expect(checks.filter(has_text="C7F2")).to_contain_text("NO TRACE")
        await expect(checks.filter(has_text="C7F3")).to_contain_text("NO ANSWER PNC NO REPLY")
        await expect(checks.filter(has_text="C7F4")).to_contain_text("NO ANSWER PNC LINK DOWN")
        await expect(checks.filter(has_text="C7F5")).to_contain_text("REFUSED NOT YOUR ROLE")
        for short in ("C7F3", "C7F4"):
            await expect(checks.filter(has_text=short)).not_to_contain_text("TRACE")
        await expect(checks.first).to_contain_text("C7F9")
        await expect(checks.first).to_contain_text("at the PNC")
        links = page.locator("#link-list li")
        await expect(links.filter(has_text="mqtt-city")).to_contain_text("DOWN for")
        await expect(page).to_have_title("EMERGENCY S-210 · radio gateway")
        await expect(page.locator(".marking")).to_contain_text("SYNTHETIC DATA")

        # live: a check runs, a position comes, a link returns
        board.bus.publish(opened("C800", "4004", now_ms=board.clock.wall_ms()))
        await expect(checks.filter(has_text="C800")).to_contain_text("S-214")
        board.bus.publish(CheckStaged("C800", "01TESTC800", "4004", "pnc", 0))
        await expect(checks.filter(has_text="C800")).to_contain_text("at the PNC")
        board.bus.publish(done("C800", terminal="4004", t_ms=board.clock.wall_ms()))
        await expect(checks.filter(has_text="C800")).to_contain_text("WEAPONS")
        board.bus.publish(fix("4004", now_ms=board.clock.wall_ms()))
        await expect(rows.filter(has_text="S-214")).to_contain_text("●")
        board.bus.publish(link("mqtt-city"))
        await expect(links.filter(has_text="mqtt-city")).to_contain_text("● up")
        board.bus.publish(UnitEmergency("4003", "A3", True, 0))
        await expect(rows.first).to_contain_text("S-213")

        # by keyboard: acknowledge, done; who that was is known
        button = page.get_by_role("button", name="Acknowledge EMERGENCY S-210")
        await button.focus()
        await page.keyboard.press("Enter")
        first = page.locator("#alarm-list li").filter(has_text="S-210")
        await expect(first).to_contain_text("acknowledged by operator")
        assert board.acts == [("ack", "A1", "operator")]

        # a refusal is said where the act was
        board.refuse = ValueError("another person must close it")
        await page.get_by_role("button", name="Close EMERGENCY S-210").click()
        await expect(first).to_contain_text("Not done: another person must close it")
        assert [c for c in here.complaints if "409" not in c] == []


async def test_silence_is_shown_as_silence_and_ends_by_itself(folder: Path) -> None:
    """Without a word for 3 s the page says DELAYED, for 10 s FROZEN, in lamp, warning and title;
    when the gateway speaks again it resumes without losing what happened meanwhile."""
    async with desk(folder) as here:
        page, board = here.page, here.board
        await page.clock.install()
        fill(board)
        await here.open()
        await page.context.set_offline(True)
        await here.server._streams.stop(1.0)  # no stream, and none can be had
        here.server._streams._stopping = False
        board.bus.publish(opened("C801", "4004", now_ms=board.clock.wall_ms()))
        await page.clock.fast_forward(3200)
        await expect(page.locator("#feed-word")).to_have_text("DELAYED")
        await expect(page.locator("#warning")).to_contain_text("may be old")
        await page.clock.fast_forward(7500)
        await expect(page.locator("#feed-word")).to_have_text("FROZEN")
        await expect(page.locator("#warning")).to_contain_text("PICTURE IS 1")
        await expect(page).to_have_title(re.compile(r"^FROZEN · EMERGENCY"))
        await page.context.set_offline(False)
        await page.clock.fast_forward(10_000)
        await expect(page.locator("#feed-word")).to_have_text("LIVE")
        await expect(page.locator("#check-rows")).to_contain_text("C801")
        assert board.snapshots == 1, "it resumed by number"


async def test_a_hole_costs_one_snapshot(folder: Path) -> None:
    """A message whose prev is not the number held makes the page take a new picture, once."""
    async with desk(folder) as here:
        board = here.board
        fill(board)
        await here.open()
        board.bus.seq += 3  # three numbers this page was due and never got
        group = next(iter(board.bus._groups.values()))
        group.last_due = group._seen = board.bus.seq
        subscription = next(iter(here.server._streams._open))
        subscription.held = board.bus.seq
        here.server._cache.clear()  # the picture of a moment ago would do as well, but not count
        board.links.append(link("serial-new"))
        board.bus.publish(link("serial-new"))
        await expect(here.page.locator("#link-list")).to_contain_text("serial-new")
        await expect(here.page.locator("#tally")).to_contain_text("resets 1")
        await expect(here.page.locator("#feed-word")).to_have_text("LIVE")
        assert board.snapshots == 2


async def test_hostile_words_stay_words(folder: Path) -> None:
    """Markup, control and direction characters from a radio are shown, never obeyed."""
    async with desk(folder) as here:
        page, board = here.page, here.board
        fill(board)
        bad = unit("4009", HOSTILE, age_s=None)
        board.units.append(bad)
        await here.open()
        shown = page.locator("#unit-rows tr").filter(has_text="PAWNED")
        await expect(shown).to_contain_text("<img src=x onerror=")
        await expect(shown).to_contain_text("‹202e›PAWNED‹0007›")
        board.bus.publish(msgspec.structs.replace(bad.meta, status="<script>1</script>"))
        await expect(shown).to_contain_text("<script>1</script>")
        board.bus.publish(done("C7F9", cause=HOSTILE, outcome=Outcome.REFUSED))
        await expect(page.locator("#check-rows")).to_contain_text("REFUSED <img")
        assert await page.locator("img").count() == 0
        assert await page.locator("main script").count() == 0
        assert "owned" not in await page.title()
        assert here.complaints == []


async def test_who_is_logged_in_stands_there_and_the_end_of_it_leads_to_the_log_in(
    folder: Path,
) -> None:
    """Chromium takes the `__Host-` cookie and no script can read it; a wrong password says so; a
    session that is ended elsewhere, and a log-out, lead to the log-in, where nothing is shown."""
    async with desk(folder) as here:
        page, board = here.page, here.board
        fill(board)
        await log_in(page, here.url, "op2", "wrong")
        await expect(page.locator("#why")).to_contain_text("wrong id or password")
        assert await page.locator("#password").input_value() == ""
        await here.open()
        await expect(page.locator("#me-name")).to_contain_text("operator")
        (cookie,) = await page.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
            *("__Host-gw", True, True),
            "Strict",
        )
        assert await page.evaluate("document.cookie") == ""
        (session,) = here.server._log_ins.sessions.all()
        await here.server._log_ins.end(session, "by a supervisor")
        await expect(page.locator("#by-password")).to_be_visible()
        assert "S-210" not in await page.content()
        await here.open()
        await page.locator("#log-out").click()
        await expect(page.locator("#by-password")).to_be_visible()
        assert here.server._log_ins.sessions.all() == []
        assert [c for c in here.complaints if "401" not in c] == []


@pytest.mark.slow
async def test_a_browser_comes_back_from_another_site_logged_in(folder: Path) -> None:
    """From the provider (another site, by its name) to our page: the strict cookie is not sent
    with the redirect from there, and it is with the step that our own page makes."""
    async with desk(folder) as here, ScriptedIdp(alg="ES256", name="localhost") as idp:
        fill(here.board)
        idp.subject = "sub-operator"
        ins = here.server._log_ins
        ins.settings = msgspec.structs.replace(ins.settings, mode="oidc")
        ins._provider = Provider(
            issuer=idp.issuer,
            client_id=CLIENT,
            secret=Secret(SECRET),
            redirect_url=f"{here.url}login/callback",
            role_claim="groups",
            require_acr="",
            wall_s=time.time,
        )
        await here.page.goto(here.url)
        await here.page.locator("#by-provider a").click()
        await here.page.get_by_text("Approve").click()
        await expect(here.page.locator("#feed-word")).to_have_text("LIVE")
        await expect(here.page.locator("#me-name")).to_contain_text("operator")
        (session,) = ins.sessions.all()
        assert session.how == "oidc"
        assert [c for c in here.complaints if "404" not in c] == [], "but for the other's icon"
