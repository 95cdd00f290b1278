"""What an operator does on the page, in a real Chromium: held answers, messages, checks."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Locator, expect

from gateway.messages import MessageChanged
from tests.adapters.web.board import alarm, challenged, done, held, opened, unit
from tests.adapters.web.seats import PASSWORD
from tests.browser.test_page import HOSTILE, Desk, desk, fill, log_in

SHOTS = os.environ.get("GATEWAY_SCREENSHOT", "")
"""Where to keep a picture of the page, for people."""


def kept(here: Desk, *expected: str) -> None:
    """The browser complains of nothing but what a refusal is."""
    assert [c for c in here.complaints if not any(each in c for each in expected)] == []


async def press(where: Locator, name: str) -> None:
    await where.get_by_role("button", name=name).click()


async def test_an_operator_reads_a_held_answer_and_lets_it_go(tmp_path: Path) -> None:
    """Nothing of it is on the page before they ask for it; why not is said beside it; it is gone
    when it was let go."""
    async with desk(tmp_path / "profile") as here:
        board, page = here.board, here.page
        fill(board)
        for short in ("C8B2", "C8B3"):
            waits = held(short)
            levels = {"L2": ("STOLEN: Y",), "L1": ("SAFETY: CAUTION+",)}
            board.held[waits.release.check] = msgspec.structs.replace(
                waits,
                release=msgspec.structs.replace(waits.release, level="L2", proposed=HOSTILE),
                levels=levels,
                whole=("!!STOLEN TE99STV\nFORD",),
            )
        await here.open()
        await expect(page.locator("#releases-count")).to_have_text("(2)")
        first, second = (
            page.locator("#release-list li").filter(has_text=short) for short in ("C8B2", "C8B3")
        )
        await expect(first).to_contain_text("<img src=x")
        assert "!!STOLEN" not in await page.content()
        await press(first, "Read")
        await expect(first.locator(".read")).to_contain_text("!!STOLEN TE99STV\nFORD")
        await press(first, "Amend")
        await expect(first).to_have_count(0)
        board.refuse = ValueError("ANOTHER OPERATOR WAS FIRST")
        await press(second, "Release")
        await expect(second).to_contain_text("Not done: ANOTHER OPERATOR WAS FIRST")
        board.refuse = None
        await expect(second.get_by_role("button", name="Refuse")).to_be_disabled()
        await second.get_by_label("Why it is refused").fill("wrong person")
        await press(second, "Refuse")
        await expect(page.locator("#releases-none")).to_be_visible()
        assert [act[:2] for act in board.acts] == [
            ("read", "01TESTC8B2"),
            ("amend L1", "01TESTC8B2"),
            ("refuse wrong person", "01TESTC8B3"),
        ]
        kept(here, "409")


@pytest.mark.slow
async def test_a_supervisor_looks_at_an_explanation_and_judges_it(tmp_path: Path) -> None:
    """What its officer wrote is there when it is asked for, and only then it is judged. An
    operator sees none of it."""
    async with desk(tmp_path / "profile") as here:
        board, page = here.board, here.page
        waits = challenged()
        board.challenged = {waits.challenge.check: waits}
        await here.open()
        await expect(page.locator("#challenges")).to_be_hidden()
        await page.locator("#log-out").click()
        await expect(page.locator("#log-in")).to_be_visible()
        await log_in(page, here.url, "supervisor", PASSWORD)
        row = page.locator("#challenge-list li")
        await expect(row).to_contain_text("explained")
        assert "SWERVE" not in await page.content()
        await expect(row.get_by_role("button", name="Explains it")).to_be_hidden()
        await press(row, "Look")
        await expect(row.locator(".read")).to_contain_text("SAW IT SWERVE")
        await press(row, "Explains it")
        await expect(page.locator("#challenges")).to_be_hidden()
        assert board.challenged == {}
        kept(here)


@pytest.mark.slow
async def test_what_was_read_leaves_the_page(tmp_path: Path) -> None:
    """After half a minute, whether or not anybody is there."""
    async with desk(tmp_path / "profile") as here:
        board, page = here.board, here.page
        board.held["01TESTC8B2"] = held()
        await page.clock.install()
        await here.open()
        row = page.locator("#release-list li")
        await press(row, "Read")
        await expect(row.locator(".read")).to_contain_text("!!STOLEN")
        await page.clock.fast_forward(29_000)
        await expect(row.locator(".read")).to_contain_text("!!STOLEN")
        await page.clock.fast_forward(2_000)
        await expect(row.locator(".read")).to_be_hidden()
        assert "!!STOLEN" not in await page.content()


async def test_an_operator_puts_alarms_aside_writes_to_units_and_asks_for_officers(
    tmp_path: Path,
) -> None:
    """What was done is seen where it was done, and so is why it was not; the answer to a check for
    an officer is read once, for each reading goes on record."""
    async with desk(tmp_path / "profile") as here:
        board, page = here.board, here.page
        board.units = [unit("4000", "S-210"), unit("4001", "S-211")]
        board.alarms = {
            "A1": alarm("A1"),
            "A2": msgspec.structs.replace(alarm("A2", rule="LNK"), priority=2, link="serial-south"),
        }
        await here.open()

        emergency = page.locator("#alarm-list li").filter(has_text="EMERGENCY")
        line = page.locator("#alarm-list li").filter(has_text="LINK DOWN")
        await expect(emergency.get_by_role("button", name="Put aside")).to_be_hidden()
        await press(emergency, "Pressed by mistake")
        await expect(emergency).to_contain_text("PRESSED BY MISTAKE")
        await press(line, "Put aside")
        await page.locator("#aside-minutes").select_option("5")
        await page.locator("#aside-why").select_option("test")
        await page.locator("#aside-do").click()
        await expect(line).to_contain_text("put aside until")
        await press(line, "Take back")
        await expect(line).not_to_contain_text("put aside until")
        assert [act[:2] for act in board.acts] == [
            ("mistake", "A1"),
            ("shelve", "A2"),
            ("unshelve", "A2"),
        ]
        board.acts.clear()

        await page.locator("#write-to").fill("S-210")
        await page.locator("#write-text").fill("Return to station")
        await page.keyboard.press("Enter")
        row = page.locator("#message-list li")
        await expect(row).to_contain_text("on record")
        assert board.acts[-1][:2] == ("Return to station", "S-210")
        await expect(page.locator("#write-text")).to_have_value("")
        board.bus.publish(MessageChanged("01M7F3C", "7F3C", "4001", "read", 1_000, HOSTILE))
        await expect(row).to_contain_text("read")
        await expect(row).to_contain_text("<img src=x")
        board.refuse = ValueError("NOBODY HOLDS THIS RADIO: CALL BY VOICE")
        await page.locator("#write-text").fill("Hello")
        await press(page.locator("#write"), "Send")
        said = page.locator("#write-said")
        await expect(said).to_have_text("Not done: NOBODY HOLDS THIS RADIO: CALL BY VOICE.")
        await expect(page.locator("#write-text")).to_have_value("Hello")
        board.refuse = None
        board.acts.clear()

        await page.locator("#ask-who").fill("1001")
        await page.locator("#ask-text").fill("V TE99STV R1")
        await page.locator("#ask-radio").uncheck()
        await page.keyboard.press("Enter")
        row = page.locator("#asked-list li")
        await expect(row).to_contain_text("asked")
        assert "!!STOLEN" not in await page.content()
        board.bus.publish(msgspec.structs.replace(opened("C7F9"), check="01TESTC7F3"))
        board.bus.publish(msgspec.structs.replace(done("C7F9"), check="01TESTC7F3"))
        await expect(row.locator(".read")).to_contain_text("!!STOLEN")
        ask, read = board.acts
        assert (ask[0].rsplit(" ", 1)[0], ask[1]) == ("ask VRM:TE99STV False", "1001")
        assert read[:2] == ("read", "01TESTC7F3")
        if SHOTS:
            await page.screenshot(path=SHOTS, full_page=True)
        await asyncio.sleep(0.5)
        assert len(board.acts) == 2, "read again: each time goes on record"
        board.refuse = ValueError("NOT BOOKED")
        await page.locator("#ask-text").fill("V TE99STV R1")
        await press(page.locator("#ask"), "Ask")
        await expect(page.locator("#ask-said")).to_have_text("Not done: NOT BOOKED.")
        kept(here, "409")
