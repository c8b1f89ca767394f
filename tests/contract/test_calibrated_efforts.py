"""A model with efforts is calibrated, and then served by what was measured: a real template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from extracot.card import BudgetCard
from extracot_client.cli import main
from extracot_server.engine.base import GenerationRequest
from tests.fixtures.saying_engine import SayingEngine
from tests.fixtures.template_tokenizer import template_tokenizer, trl_templates
from tests.server.live import serve, user

WORDS = {"low": 20, "medium": 50, "xhigh": 100}
ANSWER = "\n</think>\n\nIt is \\boxed{5}."


def engine() -> SayingEngine:
    """Three tokens a word, as many words as the effort that the prompt tells."""
    made: list[SayingEngine] = []

    def says(request: GenerationRequest) -> Sequence[int]:
        prompt = made[0].prompt(request)
        if "</think>" in prompt.rpartition("assistant")[2]:
            return made[0].ids("It is \\boxed{5}.")
        told = next((word for word in WORDS if f"effort is set to {word}" in prompt), "medium")
        return made[0].ids("so " * WORDS[told] + ANSWER)

    made.append(SayingEngine(template_tokenizer(trl_templates()["qwen3_8"]), says))
    return made[0]


def test_efforts_are_measured_and_a_ratio_is_served_by_the_nearest(tmp_path: Path) -> None:
    problems, out = tmp_path / "problems.jsonl", tmp_path / "card.json"
    rows = [{"question": f"What is {n} less {n - 5}?", "answer": "5"} for n in range(6, 14)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    measured = engine()
    with serve(on=measured, card="none") as live:
        arguments = ["calibrate", live.url, "--problems", str(problems), "--out", str(out)]
        assert main([*arguments, "--ratios", "0.4,0.8"]) == 0
        # Native and none come first, then the caps, none of which such a short reply reaches.
        capped = [measured.prompt(one) for one in measured.requests[16:32]]
    card = BudgetCard.load(out)
    by_name = {level.name: level for level in card.levels}
    assert set(by_name) == {"0.4", "0.8", "low", "medium", "xhigh"}
    assert {name: by_name[name].enforced_by for name in ("low", "0.4")} == {
        "low": "effort",
        "0.4": "cap",
    }
    assert [round(by_name[effort].expected_ratio, 1) for effort in WORDS] == [0.2, 0.5, 1.0]
    assert card.native is not None and round(card.native.reasoning.mean, -1) == 300
    serving = engine()
    with serve(on=serving, card=str(out)) as live:
        found = {}
        for budget in (0.2, 0.5, 1.0, {"level": "0.8"}):
            reply = live.chat(messages=user("What is 9 less 4?"), budget=budget)
            found[str(budget)] = reply["budget"]
        told = [serving.prompt(one) for one in serving.requests]
        effort = live.chat(messages=user("What is 9 less 4?"), reasoning_effort="low")["budget"]
    assert [one["level"] for one in found.values()] == ["low", "medium", "xhigh", "0.8"]
    assert found["0.5"]["enforcement"] == "effort" and not found["0.5"]["cap_hit"]
    assert "set to low" in told[0] and "set to" not in told[1] and "set to xhigh" in told[2]
    assert (effort["level"], effort["source"]) == ("low", "reasoning_effort")
    # What the template was told beside a cap when that was measured, it is told again.
    assert all("set to low" in prompt for prompt in (*capped, told[3]))
