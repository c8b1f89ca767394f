"""`/`: what is served, where to look, and a command that works as it stands."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import httpx

from extracot.card import BudgetCard
from extracot_server.api.start_page import first_question
from extracot_server.model_registry.resolving import SHIPPED
from tests.server.live import Live, serve


def shown_command(page: str) -> str:
    found = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert found
    return html.unescape(found[1])


def test_it_names_what_is_served_and_links_to_what_is_there(token_server: Live) -> None:
    reply = token_server.http.get("/")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
    assert "<b>scripted</b> (token mode, levels 0.2, 0.4, 0.6, 0.8, 1.0)" in reply.text
    links = re.findall(r'href="([^"]+)"', reply.text)
    assert links == ["docs", "v1/budget", "ready", "metrics"]
    for link in links:
        assert token_server.http.get(f"/{link}").status_code == 200
    assert token_server.http.head("/").status_code == 200
    assert token_server.http.post("/").status_code == 405
    assert "/" not in token_server.http.get("/openapi.json").json()["paths"]


def test_it_loads_nothing_from_anywhere(token_server: Live) -> None:
    reply = token_server.http.get("/")
    assert "<script" not in reply.text and " src=" not in reply.text
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_command_works_as_it_is_shown(token_server: Live) -> None:
    command = shown_command(token_server.http.get("/").text)
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)["budget"]["requested"] == 0.2


def test_a_card_says_what_the_model_knows_and_what_to_ask(tmp_path: Path) -> None:
    card = BudgetCard.model_validate(scripted_card())
    asked = 'Ana\'s hens lay <6> eggs; how many in "two" weeks?'
    told = card.model_copy(update={"domain": "eggs & hens", "examples": [asked]})
    told.save(tmp_path)
    with serve(card=str(tmp_path / "budget_card.json")) as live:
        page = live.http.get("/").text
        assert "It knows eggs &amp; hens." in page and "<6>" not in page
        command = shown_command(page)
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
        assert json.loads(done.stdout)["budget"]["level"] == "0.2"
        assert first_question(told) == asked
        assert json.loads(httpx.get(f"{live.url}/v1/budget").text)["card"]["examples"] == [asked]


def test_the_bundled_models_command_asks_what_the_tests_ask() -> None:
    """The README's first problem, which ``test_small`` has it solve at every budget."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = re.search(r'"content": "([^"]+)"', readme)
    assert shown and first_question(BudgetCard.load(SHIPPED["small"])) == shown[1]


def test_a_server_with_keys_says_that_one_is_needed() -> None:
    with serve(api_key="secret-key-1234567890") as live:
        page = httpx.get(f"{live.url}/").text
        assert "$EXTRACOT_API_KEY" in shown_command(page) and "(with a key)" in page
        assert "secret" not in page


def test_a_model_without_a_card_says_what_a_ratio_is(cap_server: Live) -> None:
    page = cap_server.http.get("/").text
    assert "cap mode: a ratio is a cap on 100 tokens" in page
    assert "It knows" not in page and "What is 12 * 3 + 4?" in shown_command(page)


def scripted_card() -> dict[str, object]:
    with serve() as live:
        card: dict[str, object] = live.http.get("/v1/budget").json()["card"]
        return card
