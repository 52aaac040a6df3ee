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


class Hand:
    """Who clicks, and counts: every click counts, a tab's and a field's too."""

    def __init__(self) -> None:
        self.clicks = 0

    async def click(self, place):
        self.clicks += 1
        await place.click()

    async def write(self, field, text):
        await self.click(field)
        await field.fill(text)

    def step(self, name):
        """End a step: it took fewer than five clicks."""
        assert 0 < self.clicks < 5, f"{name} took {self.clicks} clicks"
        self.clicks = 0


async def test_each_step_to_exchange_an_engine_takes_under_five_clicks():  # noqa: PLR0915 # one way, step by step
    async with (
        scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as old,
        scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as fresh,
        administered(pool("bulk", old), within_s=80) as admin,
        page_of(f"{admin.router.url}/dashboard/") as (page, problems),
    ):
        port, hand = admin.router.port, Hand()
        tab = lambda name: page.get_by_role("tab", name=name)  # noqa: E731 # said seven times
        button = lambda name: page.get_by_role("button", name=name, exact=True)  # noqa: E731 # as well
        await page.get_by_role("textbox", name="Token").fill(TOKEN)
        await button("Open").click()

        await hand.click(tab("Endpoints"))
        await hand.write(page.get_by_label("Id", exact=True), "fresh")
        await hand.write(page.get_by_label("URL"), fresh.url)
        await hand.click(button("Add"))
        await page.get_by_text("fresh added").wait_for()
        await page.get_by_role("row").filter(has_text="fresh").wait_for()
        hand.step("adding an endpoint")
        await shot(page, "1-added")

        await hand.click(tab("Variants"))
        chosen = page.locator("#shift select[name=place] option:checked", has_text="fresh")
        await chosen.wait_for(state="attached")
        await hand.click(button("Move"))
        await page.get_by_text("m: 10 % moved to fresh").wait_for()
        hand.step("moving a tenth")

        for number in range(20):
            await ask(port, chat(stream=True), {"x-request-id": f"r{number}"})
        await hand.click(tab("Variants"))
        row = page.get_by_label("variants of m").get_by_role("row").filter(has_text="fresh")
        await row.get_by_role("cell", name="10.0 %").wait_for()
        await row.get_by_role("cell", name="2", exact=True).wait_for()
        hand.step("comparing")
        await shot(page, "3-compared")

        await hand.write(page.get_by_label("Per cent"), "100")
        await hand.click(button("Move"))
        await row.get_by_role("cell", name="100.0 %").wait_for()
        hand.step("raising to all")

        await hand.click(tab("Endpoints"))
        line = page.get_by_role("row").filter(has_text="bulk-0")
        await hand.click(line.get_by_role("button", name="Drain"))
        await line.get_by_text("drained by an operator").wait_for()
        hand.step("draining")
        await shot(page, "5-drained")

        await ask(port, chat(), {"x-request-id": "slow-one"})
        await hand.click(tab("Decisions"))
        await hand.write(page.get_by_label("Request id"), "slow-one")
        await hand.click(button("Explain"))
        await page.get_by_text("sent to 'fresh' of pool 'bulk'").wait_for()
        await page.get_by_text("whole answer").wait_for()
        hand.step("explaining")
        await shot(page, "6-explained")
        await button("Close").click()
        names = await page.locator("#stream .link").all_inner_texts()
        assert len(names) == len(set(names))

        await hand.click(tab("Policy"))
        await hand.click(button("Roll back to version 1"))
        await page.get_by_text("rolled back to version 1").wait_for()
        hand.step("rolling back")
        await shot(page, "7-rolled-back")
        assert admin.router.router.policy.models["m"].variants["fresh"].share == 0.1
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
