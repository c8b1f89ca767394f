"""A published checkpoint of random weights on real vLLM: served, asked at every budget, measured.

It has learned nothing, so what is tested is the way from a model folder to figures for its card.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extracot.card import BudgetCard
from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.config.publish import PublishConfig
from extracot_training.evaluation.card import CardFigures
from extracot_training.evaluation.rows import EvalRow
from extracot_training.pipeline.records import read_rows
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.evaluate.stage import run as evaluate
from extracot_training.stages.publish.check import ask_every, served
from extracot_training.stages.publish.stage import run as publish
from tests.contract.scripted import problems
from tests.fixtures.tiny_model import build_tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("default")]

WAIT = 600.0
LEVELS = {"0.2", "0.4", "0.6", "0.8", "1.0"}


def test_a_published_checkpoint_is_served_and_measured(tmp_path: Path) -> None:
    """One server for all: what the self-check asks, and what evaluate measures."""
    model = build_tiny_model(tmp_path / "model")
    PromptSettings().save(model)
    draft = publish(PublishConfig(model=model, out=tmp_path / "draft")).folder
    card = BudgetCard.load(draft)
    with served(draft, ("--vllm", "max_model_len=1024"), WAIT) as url:
        asked = ask_every(card, url, WAIT)
        settings = EvaluateConfig.model_validate(
            {
                "input": problems(tmp_path / "problems", 5),
                "out": tmp_path / "evaluate",
                "base_url": f"{url}/v1",
                "model": "published",
                "limit": 4,
                "sampling": {"temperature": 0.7, "max_tokens": 24},
                "concurrency": 4,
                "resamples": 200,
            }
        )
        outcome = evaluate(settings)
    assert set(asked) == {*LEVELS, "auto", "native"}
    assert all(reply["calibrated"] is False for reply in asked.values())
    assert asked["auto"]["chosen"] in LEVELS
    assert asked["0.4"]["control_token"] == "<COMP_40>"
    rows = list(read_rows(outcome.folder, EvalRow))
    assert len(rows) == 4 * 8 and not any(row.refused for row in rows)
    assert all(row.completion_tokens and row.first_token_s for row in rows)
    report = json.loads((outcome.folder / "report.json").read_text())
    assert report["server"]["mode"] == "token" and set(report["card"]["levels"]) == LEVELS
    # The figures are of these weights and no others.
    figures = CardFigures.load(outcome.folder)
    assert figures.weights == (card.provenance.model_extra or {})["weights"]
