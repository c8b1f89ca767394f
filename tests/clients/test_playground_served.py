"""The playground as it is served: formulas, long replies, several models, the command."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients import fake_server as fake
from tests.clients.browser import (
    PROBLEM,
    command,
    free_port,
    playground,
    solve,
    wait_for,
    watched_page,
)
from tests.clients.conftest import LiveServer
from tests.clients.fake_server import GOOD, FakeServer
from tests.clients.page_scripts import (
    COUNT,
    SCROLLED,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser


FORMULAS = (
    "By $x=\\frac{-b\\pm\\sqrt{b^2-4ac}}{2a}$ it is\n\n$$x_1 = \\frac{5+1}{2} = 3$$\n\n",
    "or \\(x_2 = 2\\), at $5 or $10; ![seen](http://192.0.2.1/x.png) <img src=x>\n\n",
    *("One more line of a long thought.\n\n",) * 40,
    "\\[\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}\\]\n\nThe last line.",
)


def test_formulas_are_drawn_and_a_long_reply_scrolls_until_the_server_goes(
    browser: Browser,
) -> None:
    chunks = [fake.chunk(reasoning=text) for text in FORMULAS]
    answer = fake.chunk(content="So \\boxed{\\dfrac{10}{2}}.")
    handlers = [fake.error(404), fake.stream(*chunks, answer, *GOOD[4:])]
    with ExitStack() as closing, watched_page(browser) as watched:
        until_it_goes = closing.enter_context(ExitStack())
        server = until_it_goes.enter_context(FakeServer(handlers)).url
        address = closing.enter_context(playground(server))
        page = watched.open(address)
        page.get_by_label("Problem").fill(PROBLEM)
        solve(page)
        wait_for(page, f"() => {COUNT}('#xc-reasoning .katex') === 4")  # drawn after the text
        page.locator("#xc-answer .katex .fbox").first.wait_for()
        assert page.locator(".katex-error, main img").count() == 0
        assert "at $5 or $10" in page.locator("#xc-reasoning").inner_text()
        assert page.evaluate(SCROLLED) == [True, True]
        until_it_goes.close()
        page.reload()
        alert = page.locator("#xc-server [role=alert]")
        alert.wait_for()
        assert server in alert.inner_text()
        page.get_by_label("Problem").fill(PROBLEM)
        page.get_by_role("button", name="Solve").click()
        page.locator("#xc-summary [role=alert]").wait_for()
        assert page.locator("#xc-solve").is_enabled()
        assert watched.complaints == [] and watched.hosts <= {"127.0.0.1", "data", "blob"}


def test_the_server_may_carry_the_page_and_offer_several_models(
    browser: Browser, tmp_path: Path
) -> None:
    pytest.importorskip("gradio")
    config = tmp_path / "server.yaml"
    config.write_text(
        f"engine: scripted\nplayground: true\nport: {free_port()}\n"
        "models: [{name: small}, {name: plain, card: none}]\n"
    )
    arguments = ("--config", str(config))
    with (
        command("extracot_server.cli", *arguments, ready="playground at") as line,
        watched_page(browser) as watched,
    ):
        page = watched.open(line.rsplit(" ", 1)[1].strip())
        page.get_by_label("Problem").fill(PROBLEM)
        assert "saved ≈" in solve(page)
        page.get_by_label("Model").click()
        page.get_by_role("option", name="plain").click()
        page.locator(".xc-server", has_text="no budget card").wait_for()
        page.locator("#xc-mode input[value=auto]").wait_for(state="detached")
        assert "is assumed, not measured" in solve(page)
        assert watched.complaints == [] and watched.hosts <= {"127.0.0.1", "data"}


def test_the_command_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], live: LiveServer, tmp_path: Path
) -> None:
    from extracot_client.cli import main

    assert main(["playground", "--base-url", "ftp://x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
