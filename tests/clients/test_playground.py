"""The playground driven in headless Chromium, over HTTP to the real app on the scripted engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.clients.browser import (
    PROBLEM,
    Watched,
    playground,
    solve,
    summary_of,
    wait_for,
    watched_page,
)
from tests.clients.conftest import LiveServer, serve
from tests.clients.page_scripts import (
    CONTRAST,
    COUNT,
    FOCUSED,
    MARGINS,
    NOTE_TEXTS,
    STICKS_OUT,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def url(browser: Browser) -> Iterator[str]:
    """A playground for a server slow enough to see the stream."""
    behaviour = ScriptedBehaviour(token_interval_seconds=0.03)
    with serve(behaviour) as server, playground(server.url) as address:
        yield address


@pytest.fixture
def watched(browser: Browser, url: str) -> Iterator[Watched]:
    """A fresh session of it; afterwards nothing was complained of and nobody else was asked."""
    with watched_page(browser) as page:
        page.open(url)
        yield page
        assert page.complaints == []
        assert page.hosts <= {"127.0.0.1", "data", "blob"}


def test_a_problem_is_typed_and_solved_by_keyboard_and_streams(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("Problem").click()
    page.keyboard.type(PROBLEM)
    for selector in ("#xc-reasoning .md", "#xc-summary .xc-status"):
        page.evaluate(NOTE_TEXTS, selector)
    before = page.locator("#xc-reasoning").bounding_box()
    line = summary_of(page, lambda: page.keyboard.press("Shift+Enter"))
    after = page.locator("#xc-reasoning").bounding_box()
    assert before and after and abs(before["y"] - after["y"]) < 8  # nothing jumps
    assert line.startswith("budget 0.4 · reasoning ") and "saved ≈" in line
    reasoning = page.evaluate("noted['#xc-reasoning .md']")
    lengths = [len(text) for text in reasoning]
    assert len(lengths) >= 4 and lengths == sorted(lengths)
    statuses = page.evaluate("noted['#xc-summary .xc-status']")
    assert "Reasoning …" in statuses
    wait_for(page, f"() => {COUNT}('#xc-answer .katex') === 1")
    assert page.locator(".katex-error").count() == 0
    tiles = page.locator("#xc-summary dt").all_inner_texts()
    assert tiles[:4] == ["reasoning tokens", "answer tokens", "saved in all", "in reasoning"]


def test_the_keyboard_reaches_everything_and_its_place_is_seen(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("Problem").fill(PROBLEM)
    passed: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        wait_for(page, f"() => ({FOCUSED})()[2]")  # the ring grows: a moment on a busy machine
        name, words, _ = page.evaluate(FOCUSED)
        passed.append(words)
        if "range slider" in words:
            page.keyboard.press("ArrowRight")
        if name == "xc-solve":
            break
    assert {"What is 12 * 12?", "Compare", "Savings", "Ratio", "Auto", "Native"} <= set(passed)
    assert any("Sampling" in words for words in passed)
    line = summary_of(page, lambda: page.keyboard.press("Enter"))
    assert line.startswith("budget 0.45 ")


def test_sampling_is_left_to_the_server_until_something_is_typed(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("Problem").fill(PROBLEM)
    page.get_by_role("button", name="Sampling").click()
    limit = page.get_by_label("Max tokens")
    limit.wait_for()
    assert "cut off" not in solve(page)  # the boxes say nothing by being drawn
    limit.fill("8")
    assert "cut off at max tokens" in solve(page)
    limit.fill("many")
    page.get_by_role("button", name="Solve").click()
    alert = page.locator("#xc-summary [role=alert]")
    alert.wait_for()
    assert alert.inner_text() == "Max tokens is a whole number, or empty; not 'many'"


def test_moving_the_slider_asks_for_that_ratio(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("Problem").fill(PROBLEM)
    page.get_by_role("radio", name="Native").check()
    slider = page.locator("#xc-ratio input[type=range]")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "0.6"
    wait_for(page, "() => document.querySelector('#xc-mode input[value=ratio]').checked")
    assert solve(page).startswith("budget 0.6 ·")
    for name, said in (("Auto", "budget auto → 0."), ("Native", "nothing saved"), ("None", "none")):
        page.get_by_role("radio", name=name).check()
        assert said in solve(page)
    wait_for(page, "() => document.querySelector('#xc-reasoning').innerText.trim() === ''")


def test_compare_shows_all_budgets_and_its_plot_can_be_read(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("Problem").fill(PROBLEM)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_text("Nothing compared yet. Here will be a line for each budget").wait_for()
    page.evaluate(NOTE_TEXTS, "#xc-table tbody")
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("8 of 8 replies").wait_for()
    names = ["0.2", "0.4", "0.6", "0.8", "1", "auto", "native", "none"]
    tokens = page.locator("#xc-charts figure", has_text="Tokens")
    assert tokens.locator(".xc-label").all_inner_texts() == names
    widths = tokens.locator(".xc-part-0.xc-bar").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width)"
    )
    words = tokens.locator(".xc-value").all_inner_texts()
    reasoning = [int(text.split(" + ")[0]) for text in words]
    assert reasoning[:5] == sorted(reasoning[:5]) and reasoning[7] == 0 and widths[7] == 0
    scale = max(width / count for width, count in zip(widths, reasoning, strict=True) if count)
    assert widths == pytest.approx([scale * count for count in reasoning], abs=1.5)
    cells = page.locator(".xc-table tbody td:nth-child(5)").all_inner_texts()
    assert [int(cell) for cell in cells] == reasoning
    for shown in page.evaluate("noted['#xc-table tbody']"):  # each has its place from the start
        assert not shown or [line.split()[0] for line in shown.splitlines()] == names
    seconds = page.locator("#xc-charts figure", has_text="Time").locator(".xc-value")
    assert all(re.search(r"\d (ms|s) \(answer after", text) for text in seconds.all_inner_texts())
    wait_for(page, f"() => {COUNT}('#xc-cards .xc-card') === 8")
    wait_for(page, f"() => {COUNT}('#xc-cards .katex') >= 8")
    details = page.locator("#xc-cards details").first
    assert details.locator("p").is_visible()
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.locator("p").is_hidden()


def test_compare_says_who_agrees_and_who_is_right(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("Problem").fill(PROBLEM)
    page.get_by_role("tab", name="Compare").click()
    for name in ("0.4", "0.6", "0.8", "1", "auto"):
        page.get_by_role("checkbox", name=name, exact=True).uncheck()
    marks = page.locator("#xc-table tbody td:nth-child(3)")
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("3 of 3 replies").wait_for()
    assert marks.all_inner_texts() == ["= 2 of 2 others"] * 3
    answer = page.locator("#xc-table tbody td:nth-child(2)").first.inner_text()
    for known, mark in ((answer, "✓ right"), ("1" + answer, "× wrong")):
        page.get_by_label("Known answer").fill(known)
        page.keyboard.press("Enter")
        page.locator("#xc-table td", has_text=mark).nth(2).wait_for()


def test_savings_add_up_what_the_session_did(watched: Watched) -> None:
    page = watched.page
    page.get_by_role("tab", name="Savings").click()
    page.get_by_text("Nothing solved yet").wait_for()
    page.get_by_label("Problem").fill(PROBLEM)
    page.get_by_role("tab", name="Compare").click()
    for name in ("0.6", "0.8", "1", "auto", "none"):
        page.get_by_role("checkbox", name=name, exact=True).uncheck()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("3 of 3 replies").wait_for()
    saved = page.locator(".xc-table tbody td:nth-child(7)").all_inner_texts()
    page.get_by_role("tab", name="Savings").click()
    total = sum(int(text) for text in saved if text != "–")
    savings = page.locator("#xc-savings")
    savings.locator("dd", has_text=re.compile(f"^{total}$")).wait_for()
    assert "2 replies are compared with a native one" in savings.inner_text()
    assert savings.locator(".xc-label").all_inner_texts() == ["0.2", "0.4", "native"]
    assert "20% requested" in savings.locator(".xc-value").first.inner_text()
    assert savings.locator(".xc-tick").count() == 2
    page.get_by_role("button", name="Start over").click()
    page.get_by_text("Nothing solved yet").wait_for()


def test_a_long_reply_of_compare_scrolls_in_its_card(watched: Watched) -> None:
    card = '<section class="xc-card"><h3>none</h3>' + "<p>One more line.</p>" * 200 + "</section>"
    add = """html => { const cards = document.createElement('div'); cards.className = 'xc-cards';
        cards.innerHTML = html; document.querySelector('.xc-server').after(cards);
        const card = cards.firstChild; return [card.offsetHeight, card.scrollHeight]; }"""
    shown, whole = watched.page.evaluate(add, card)
    assert shown < 600 < whole


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser: Browser, url: str, scheme: str) -> None:
    with watched_page(browser, color_scheme=scheme) as watched:
        page = watched.open(url)
        page.get_by_label("Problem").fill(PROBLEM)
        solve(page)
        for selector in TEXTS:
            assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector
        left, right = page.evaluate(MARGINS)
        assert abs(left - right) < 2 and left < 100  # in the middle, and wide


TEXTS = (
    ".xc-server",
    ".xc-line",
    "#xc-summary dt",
    "#xc-summary dd",
    "#xc-reasoning p",
    "#xc-answer p",
    "[role=tab][aria-selected=true]",
    "[role=tab][aria-selected=false]",
    "#xc-problem textarea",
    "#xc-solve",
    "#xc-mode label",
)


def test_it_fits_a_phone(browser: Browser, url: str) -> None:
    with watched_page(browser, **PHONE) as watched:
        page = watched.open(url)
        page.get_by_label("Problem").fill(PROBLEM)
        solve(page)
        assert page.evaluate(STICKS_OUT) == []
        left, right = page.evaluate(MARGINS)
        assert abs(left - right) < 2 and left <= 16
        page.get_by_role("tab", name="Compare").click()
        page.get_by_role("button", name="Compare").click()
        page.get_by_text("8 of 8 replies").wait_for()
        assert page.evaluate(STICKS_OUT) == []
        strip = page.locator(".xc-cards")  # beside each other, each within reach
        assert strip.evaluate("box => box.scrollWidth > 3 * box.clientWidth")
        assert strip.evaluate("box => box.clientHeight < 450 && box.clientWidth <= innerWidth")
        page.get_by_role("tab", name="Savings").click()
        page.locator("#xc-savings figure").wait_for()
        assert page.evaluate(STICKS_OUT) == []
        assert watched.complaints == []


def test_a_reply_cannot_make_the_page_ask_others(browser: Browser, url: str) -> None:
    with watched_page(browser) as watched:
        page = watched.open(url)
        loaded = page.evaluate("""() => new Promise(done => {
          const image = new Image();
          image.onload = () => done(true);
          image.onerror = () => done(false);
          image.src = 'http://192.0.2.1/x.png';
        })""")
        assert loaded is False
        assert any("Content Security Policy" in text for text in watched.complaints)


@pytest.fixture
def slow_page(browser: Browser, slow: LiveServer) -> Iterator[tuple[Watched, LiveServer]]:
    """A page on a server that never ends a reply."""
    with playground(slow.url) as address, watched_page(browser) as watched:
        watched.open(address).get_by_label("Problem").fill(PROBLEM)
        yield watched, slow


def test_stop_and_leaving_abort_on_the_server(slow_page: tuple[Watched, LiveServer]) -> None:
    watched, server = slow_page
    page = watched.page
    stop, again = page.locator("#xc-stop"), page.locator("#xc-solve")
    assert stop.is_disabled()
    for _ in range(3):  # what was on its way when the button was pressed must not be drawn after
        again.click()
        page.locator("#xc-summary .busy", has_text="Reasoning").wait_for()
        assert server.in_flight() == 1
        stop.click()
        page.get_by_text("Stopped; the server was told").wait_for()
        server.wait_until(lambda: server.in_flight() == 0)
        assert page.locator("#xc-reasoning p").first.is_visible()
        assert again.is_enabled() and stop.is_disabled()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Compare").click()
    server.wait_until(lambda: server.in_flight() == 8)
    page.locator("#xc-compare-stop").click()
    server.wait_until(lambda: server.in_flight() == 0)
    page.get_by_role("tab", name="Solve").click()
    page.get_by_role("button", name="Solve").click()
    server.wait_until(lambda: server.in_flight() == 1)
    page.close()
    server.wait_until(lambda: server.in_flight() == 0)
    assert watched.complaints == []
