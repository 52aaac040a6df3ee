"""A real Chromium, headless: the system's, or the one that Playwright installed."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

WHY_NOT = "no Chromium: install one, or run 'playwright install chromium'"


@asynccontextmanager
async def page_of(url: str) -> AsyncGenerator[tuple[Page, list[str]]]:
    """Open a page; gives what its console complains of as well. Skips where there is no browser."""
    async with async_playwright() as playwright:
        system = shutil.which("chromium") or shutil.which("google-chrome")
        own = playwright.chromium.executable_path
        if system is None and not Path(own).exists():  # noqa: ASYNC240 # a test may wait
            pytest.skip(WHY_NOT)
        browser = await playwright.chromium.launch(
            executable_path=system or own, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            page = await browser.new_page()
            problems: list[str] = []
            page.on(
                "console",
                lambda each: (
                    problems.append(each.text) if each.type in ("error", "warning") else None
                ),
            )
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.set_default_timeout(10_000)
            await page.goto(url)
            yield page, problems
        finally:
            await browser.close()
