"""The page in a real Chromium before a real daemon that is stopped: row W10."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.test_page import chromium, log_in
from tests.system.daemon import Daemon
from tests.system.seats import PASSWORD


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path)
    await daemon.start()
    yield daemon
    await daemon.close()


@pytest.mark.slow
async def test_a_stopped_daemon_is_not_taken_for_a_calm_one(daemon: Daemon, tmp_path: Path) -> None:
    """SIGSTOP: its connections stay open and its kernel goes on acknowledging; the page counts on
    neither. DELAYED at 3 s, FROZEN at 10 s, LIVE when it goes on."""
    async with chromium(tmp_path / "profile") as browser:
        page = await browser.new_page()
        page.set_default_timeout(10_000)
        await page.clock.install()
        await log_in(page, daemon.url, "op-1", PASSWORD)
        word = page.locator("#feed-word")
        await expect(word).to_have_text("LIVE")
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            await page.clock.fast_forward(3200)
            await expect(word).to_have_text("DELAYED")
            await page.clock.fast_forward(7500)
            await expect(word).to_have_text("FROZEN")
            await expect(page.locator("#warning")).to_contain_text("PICTURE IS 1")
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        await page.clock.fast_forward(10_000)
        await expect(word).to_have_text("LIVE")
