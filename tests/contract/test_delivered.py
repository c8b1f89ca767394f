"""A trained SmolLM2 as it is delivered: a difference of at most 25 MB, merged at the first start.

Its layers are moved by noise as large as a training's changes, so it knows nothing; what is tested
is the way from a model folder to a server of it, with the base from PyPI.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extracot.card import BudgetCard
from extracot.difference import Difference
from extracot_training.config.publish import PublishConfig
from extracot_training.evaluation.serving import served
from extracot_training.policy.control_tokens import grow_embeddings, prepare_tokenizer
from extracot_training.policy.pretrained import load_tokenizer, open_causal_lm
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.publish.check import ask_every
from extracot_training.stages.publish.stage import run as publish

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("default")]

WAIT = 600.0
LARGEST = 25_000_000
MOVED = 0.003
"""A trained weight's typical change."""


def trained(folder: Path) -> Path:
    """The base with its upper ten layers moved, and rows for the control tokens."""
    import torch

    settings = PromptSettings()
    tokenizer = load_tokenizer("bundled:smollm2")
    model = open_causal_lm("bundled:smollm2", dtype=torch.float32)
    tokens = prepare_tokenizer(tokenizer, settings.ratios)
    grow_embeddings(model, tokenizer, tokens.added, seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.model.layers[20:]:
            for values in layer.parameters():
                values += MOVED * torch.randn(values.shape, generator=generator)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings.save(folder)
    return folder


def test_a_difference_from_smollm2_is_small_and_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    question = "Ann has 3 pens and buys 5 more. How many has she?"
    config = {
        "model": trained(tmp_path / "chrpo"),
        "out": tmp_path / "published",
        "name": "trained",
        "dtype": "bfloat16",
        "difference": {"form": "bits", "bits": 4},
        "domain": "sums",
        "examples": [question],
    }
    folder = publish(PublishConfig.model_validate(config)).folder
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST
    lost = json.loads((folder / "report.json").read_text())["difference"]["lost"]
    assert lost["mean"] < 0.25  # the rounding of norms to bfloat16 is most of it
    told = Difference.load(folder)
    assert len(told.steps) == 91  # nine tensors of each of ten layers, and the new tokens' rows
    card = BudgetCard.load(folder)
    with served(folder, ("--vllm", "max_model_len=1024"), WAIT) as url:
        asked = ask_every(card, url, WAIT)
    assert asked["0.4"]["control_token"] == "<COMP_40>"
    (merged,) = (tmp_path / "cache/extracot/models").glob("published-*")
    assert BudgetCard.load(merged).examples == [question]
    assert BudgetCard.load(merged).domain == "sums"
    assert not (merged / "difference.json").exists()
