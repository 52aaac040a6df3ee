"""The dashboard in a real browser: a person's whole path, and what the page asks of it."""

import os
from pathlib import Path

import pytest

from router.admin.page import files
from tests.e2e.caller import ask, chat
from tests.e2e.dashboard.browser import page_of
from tests.e2e.running import TOKEN, pool
from tests.fakes.scripted import scripted_engine, streaming
from tests.router.admin.asking import administered

pytestmark = pytest.mark.timeout(90)
CHUNK = b'{"choices":[{"delta":{"content":"a"}}]}'
USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
SHOTS = os.environ.get("HEADWAY_SCREENSHOTS")
"""A folder for pictures of the way, for whoever wants to look at them."""


async def shot(page, name):
    if SHOTS:
        await page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def test_the_page_is_small_and_asks_nothing_of_others():
    known = files()

    assert {"index.html", "main.js", "style.css"} <= set(known)
    assert sum(map(len, known.values())) < 500_000
    for name, text in known.items():
        outside = text.replace(b"http://www.w3.org/2000/svg", b"").replace(b"http://10.0.0.4", b"")
        assert b"http://" not in outside, name
        assert b"https://" not in outside, name


async def test_a_person_looks_changes_tries_applies_sees_and_goes_back():
    async with (
        scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as engine,
        administered(pool("bulk", engine), within_s=80) as admin,
        page_of(f"{admin.router.url}/dashboard") as (page, problems),
    ):
        await page.get_by_role("textbox", name="Token").fill("wrong")
        await page.get_by_role("button", name="Open").click()
        await page.get_by_text("the token is wrong").wait_for()
        problems.clear()
        await page.get_by_role("textbox", name="Token").fill(TOKEN)
        await page.get_by_role("button", name="Open").click()
        for number in range(30):
            named = {"x-request-id": f"r{number}", "x-sla-class": "interactive"}
            await ask(admin.router.port, chat(stream=True), named)
        card = page.get_by_label("class interactive")
        await card.get_by_text("100.0 % attained").wait_for()
        await shot(page, "overview")

        await page.get_by_role("tab", name="Endpoints").press("Enter")
        line = page.get_by_role("row").filter(has_text="bulk-0")
        await line.get_by_text("takes requests").wait_for()
        await line.get_by_role("button", name="Drain").click()
        await line.get_by_text("drained by an operator").wait_for()
        await shot(page, "endpoints")
        await line.get_by_role("button", name="Undrain").click()
        await line.get_by_text("takes requests").wait_for()

        await page.get_by_role("tab", name="Decisions").click()
        await page.get_by_role("button", name="r29", exact=True).click()
        await page.get_by_text("sent to 'bulk-0' of pool 'bulk'").wait_for()
        await shot(page, "story")
        await page.get_by_role("button", name="Close").click()

        await page.get_by_role("tab", name="Policy").click()
        await page.get_by_label("Find a setting").fill("interactive.max_wait")
        field = page.get_by_label("classes.interactive.max_wait_s", exact=True)
        await field.fill("0.5")
        await field.press("Tab")
        await page.get_by_role("button", name="Dry-run").click()
        await page.get_by_text("30 requests of").wait_for(timeout=40_000)
        await shot(page, "dry-run")
        await page.get_by_label("Reason").fill("kürzer")
        await page.get_by_role("button", name="Apply").click()
        await page.get_by_text("“kürzer”").wait_for()
        policy = admin.router.router.dispatcher.policy
        assert policy.classes.interactive.max_wait_s == 0.5
        await shot(page, "applied")

        await page.get_by_role("button", name="Roll back to version 0").click()
        await page.get_by_text("rolled back to version 0").wait_for()
        policy = admin.router.router.dispatcher.policy
        assert policy.classes.interactive.max_wait_s == 2.0
        assert problems == []


async def test_a_share_is_moved_compared_and_ended():
    async with (
        scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as engine,
        administered(pool("bulk", engine, engine), within_s=80) as admin,
        page_of(f"{admin.router.url}/dashboard/") as (page, problems),
    ):
        await page.get_by_role("textbox", name="Token").fill(TOKEN)
        await page.get_by_role("button", name="Open").click()
        await page.get_by_role("tab", name="Variants").click()
        await page.get_by_text("No model is divided").wait_for()
        await page.locator("#shift select[name=place]").select_option("bulk-1")
        await page.get_by_label("Per cent").fill("10")
        await page.get_by_role("button", name="Move").click()
        await page.get_by_text("m: 10 % moved to bulk-1").wait_for()
        for _ in range(20):
            await ask(admin.router.port, chat(stream=True))
        row = page.get_by_label("variants of m").get_by_role("row").filter(has_text="bulk-1")
        await row.get_by_role("cell", name="10.0 %").wait_for()
        await row.get_by_role("cell", name="2", exact=True).wait_for()
        await shot(page, "variants")
        await page.emulate_media(color_scheme="dark")
        await shot(page, "variants-dark")
        await page.get_by_role("button", name="End").click()
        await page.get_by_text("No model is divided").wait_for()

        assert admin.router.router.policy.models["m"].variants == {}
        assert problems == []


async def test_a_wrong_setting_is_told_where_it_is():
    async with (
        scripted_engine(streaming(CHUNK, USAGE)) as engine,
        administered(pool("bulk", engine), within_s=80) as admin,
        page_of(f"{admin.router.url}/dashboard/") as (page, _),
    ):
        await page.get_by_role("textbox", name="Token").fill(TOKEN)
        await page.get_by_role("button", name="Open").click()
        await page.get_by_role("tab", name="Policy").click()
        field = page.get_by_label("classes.bulk.max_wait_s", exact=True)
        await field.fill("-3")
        await field.press("Tab")
        await page.get_by_role("button", name="Apply").click()

        await page.get_by_text("/classes/bulk/max_wait_s: must be more than 0").wait_for()
