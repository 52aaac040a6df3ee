"""The dashboard in a real Chromium, with many endpoints and requests: how long an update takes."""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from playwright.async_api import Page, async_playwright

from router.admin.page import files
from tests.bench.administration.fleet import TOKEN, Load, Running, ready, routers
from tests.fakes.scripted import answering, scripted_engine

ENDPOINTS: Final = 200
CALLERS: Final = 40
EVERY_S: Final = 0.04
"""Each of them: a thousand requests a second together."""
LOOK_S: Final = 6.0
UPDATE_MS: Final = 100.0
PAGE_BYTES: Final = 500_000
VIEWS: Final = ("Overview", "Endpoints", "Variants", "Decisions")
ANSWER: Final = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
WATCH: Final = """
window.slow = [];
new PerformanceObserver((list) => window.slow.push(...list.getEntries().map((e) => e.duration)))
  .observe({ entryTypes: ["longtask"] });
"""
TOOK: Final = """
() => {
  const took = performance.getEntriesByName("headway-update").map(({ duration }) => duration);
  performance.clearMeasures();
  const slow = window.slow; window.slow = [];
  return { took, slow };
}
"""


async def page(folder: Path, say: Callable[[str], None]) -> list[str]:
    """Look at every view while requests come; returns what falls short."""
    size = sum(map(len, files().values()))
    short = [] if size <= PAGE_BYTES else [f"page: it weighs {size} bytes"]
    say(f"the dashboard weighs {size} bytes (goal {PAGE_BYTES})")
    async with scripted_engine(answering(ANSWER)) as engine, async_playwright() as playwright:
        system = shutil.which("chromium") or shutil.which("google-chrome")
        own = playwright.chromium.executable_path
        if system is None and not Path(own).exists():  # noqa: ASYNC240 # nothing runs yet
            say("no Chromium: the time of an update is not measured")
            return short
        with routers(folder, [engine.url] * ENDPOINTS) as started:
            await ready(started)
            browser = await playwright.chromium.launch(
                executable_path=system or own, args=["--no-sandbox", "--disable-gpu"]
            )
            shown = await browser.new_page(viewport={"width": 1280, "height": 900})
            short += await _look(shown, started[0], say)
            await browser.close()
    return short


async def _look(shown: Page, router: Running, say: Callable[[str], None]) -> list[str]:
    problems: list[str] = []
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on(
        "console",
        lambda each: problems.append(each.text) if each.type in ("error", "warning") else None,
    )
    load = Load([router.port])
    worst_ms, short = 0.0, []
    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(load.call(router.port, EVERY_S, EVERY_S * number / CALLERS))
        await shown.goto(f"{router.url}/dashboard/")
        await shown.evaluate(WATCH)
        await shown.get_by_role("textbox", name="Token").fill(TOKEN)
        await shown.get_by_role("button", name="Open").click()
        began, answered = time.perf_counter(), load.answered
        for view in VIEWS:
            await shown.get_by_role("tab", name=view).click()
            await shown.evaluate(TOOK)
            await asyncio.sleep(LOOK_S)
            found = await shown.evaluate(TOOK)
            longest_ms = max(found["took"] + found["slow"], default=0.0)
            worst_ms = max(worst_ms, longest_ms)
            say(
                f"{view}: {len(found['took'])} updates, the longest {max(found['took']):.1f} ms;"
                f" the longest task of the page, layout and painting included, {longest_ms:.1f} ms"
            )
        rate = (load.answered - answered) / (time.perf_counter() - began)
        load.stopped = True
    say(
        f"{ENDPOINTS} endpoints, {rate:.0f} requests a second: no update takes more than"
        f" {worst_ms:.1f} ms (goal {UPDATE_MS:g}); the console complains of {problems or 'nothing'}"
    )
    if worst_ms > UPDATE_MS:
        short.append(f"page: an update takes {worst_ms:.1f} ms")
    return short + [f"page: {problem}" for problem in problems]
