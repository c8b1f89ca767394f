"""What is said of a baseline: in the command and on the page, from every kind of server."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_client import Extracot
from extracot_client.cli import main
from extracot_client.formatting import baseline_words, cap_words, holdout_words, native_range
from extracot_client.playground.views import server_line
from extracot_client.types import BudgetCardPage
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.clients.conftest import LiveServer, serve


def page(
    source: str, assumed: int | None = None, measured: float | None = None, **more: Any
) -> BudgetCardPage:
    """A page of a server that says this of its baseline."""
    baseline = {
        "source": source,
        "assumed_reasoning_tokens": assumed,
        "measured_reasoning_tokens": measured,
    }
    return BudgetCardPage.model_validate({"model": "m", "baseline": baseline, **more})


def bins(*pairs: tuple[int | None, float]) -> dict[str, Any]:
    """A card whose native baseline has these bins (longest prompt, mean)."""
    native = [
        {"max_prompt_tokens": limit, "n": 9, "reasoning": {"mean": mean, "p90": 2 * mean}}
        for limit, mean in pairs
    ]
    return {"baseline": {"native": native, "full": []}}


def test_assumed() -> None:
    found = page("assumed", 512)
    assert baseline_words(found).startswith("assumed, 512 reasoning tokens")
    assert cap_words(found) == "a ratio is a cap of 512 assumed tokens"
    assert "cap of 512 assumed tokens" in server_line(found, "u")


def test_measured_by_the_holdout() -> None:
    found = page("holdout", 512, 1234.4)
    words = baseline_words(found)
    assert words == (
        "measured on held-out requests, 1,234 reasoning tokens a request (512 were assumed before)"
    )
    assert "cap of 1,234 tokens, measured" in cap_words(found)
    assert "1,234 tokens, measured" in server_line(found, "u")
    assert "assumed" not in server_line(found, "u")


def test_on_the_card() -> None:
    found = page("card", card=bins((64, 70.0), (None, 110.0)))
    assert baseline_words(found) == (
        "card, prompts up to 64: 70 reasoning tokens natively, 9 of 10 below 140; "
        "longer prompts: 110 reasoning tokens natively, 9 of 10 below 220"
    )
    assert native_range(found) == "70 to 110"
    one = page("card", card=bins((None, 70.0)), levels=[{"name": "0.2"}])
    assert baseline_words(one) == "card, 70 reasoning tokens natively, 9 of 10 below 140"
    assert "0.2; native reasoning of 70 tokens on average" in server_line(one, "u")


@pytest.mark.parametrize("card", [{"baseline": None}, {}, {"baseline": {"native": []}}, None])
def test_a_card_without_figures(card: Any) -> None:
    found = page("card", card=card, levels=[{"name": "0.2"}])
    assert baseline_words(found) == "card, which has none measured"
    assert server_line(found, "u").endswith("trained levels 0.2</p>")


def test_other_servers_say_nothing() -> None:
    empty = BudgetCardPage()
    assert (baseline_words(empty), cap_words(empty)) == ("unknown", "a ratio is a cap")
    assert holdout_words(empty) is None and native_range(empty) is None
    odd = BudgetCardPage.model_validate({"card": {"baseline": {"native": [1, {"reasoning": 2}]}}})
    assert native_range(odd) is None and "some" in baseline_words(
        odd.model_copy(update={"baseline": {"source": "card"}})
    )


def test_of_real_servers(live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    """All three, as the server words them: a card, an assumption, and a holdout that has enough."""
    with serve(ScriptedBehaviour(), card="none", holdout_fraction=1.0) as held:
        for url, words in ((live.url, "baseline: card, prompts up to 64: "), (held.url, "assumed")):
            assert main(["card", "--base-url", url]) == 0
            assert words in capsys.readouterr().out
        with Extracot(held.url) as client:
            problems = [f"What is {index} + 4?" for index in range(30)]
            assert not any(row.error for row in client.sweep(problems, [0.5]))
            mean = client.budget_card().baseline["measured_reasoning_tokens"]
        assert main(["card", "--base-url", held.url]) == 0
        out = capsys.readouterr().out
        assert f"baseline: measured on held-out requests, {mean:,.0f} reasoning tokens" in out
        assert f"cap of {mean:,.0f} tokens, measured" in out


def test_a_measured_saving_is_shown() -> None:
    holdout = {"confidence": 0.95, "saving_per_reply": {"mean": 61.2, "low": 50.0, "high": 70.9}}
    words = holdout_words(page("card", holdout=holdout))
    assert words == "61 reasoning tokens a reply (95% interval 50 to 71)"
