"""Architectures other than Llama: fine-tuned in full and by LoRA, rolled out, published. What
docs/training.md says of each is what is tried here, with tiny random weights."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from extracot.card import BudgetCard
from extracot_training.config.publish import PublishConfig
from extracot_training.config.sampling import GenerateBackend, RolloutSamplingParams
from extracot_training.generation.rollout.engines import open_rollouts
from extracot_training.pipeline.records import read_rows
from extracot_training.policy.loading import load_policy_model
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.publish import stage as publish
from extracot_training.stages.sft.stage import make_trainer, run
from tests.training.architectures import ARCHITECTURES, LONGEST, ROUTED, SERVED, asked, make
from tests.training.tiny_policy import make_all, sft_config

LORA = {"rank": 2, "alpha": 64.0}
ROOT = Path(__file__).parents[2]
# Tried in every test run; the rest take a minute.
QUICK = ("gpt2", "mixtral")


def each(*quick: str) -> list[Any]:
    return [
        pytest.param(name, id=name, marks=[] if name in quick else [pytest.mark.slow])
        for name in ARCHITECTURES
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("architectures")
    make_all(root)
    return root


def trained(root: Path, base: Path, out: Path, **settings: Any) -> Path:
    return run(sft_config(root, model=str(base), out=out, max_steps=1, **settings)).folder


def replies(folder: Path) -> dict[str, tuple[int, ...]]:
    """Greedy ones, by our own sampler."""
    params = RolloutSamplingParams(temperature=0, max_tokens=LONGEST)
    backend = GenerateBackend(device="cpu")
    rollouts = open_rollouts(backend, str(folder), PromptSettings.load(folder), params)
    return {one.key: one.ids for one in rollouts.run(asked(folder))}


def published(model: Path, out: Path) -> Path:
    return publish.run(PublishConfig(model=model, out=out)).folder


def logits(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(20, 44)[None]).logits
    return found


@pytest.mark.parametrize("name", each(*QUICK))
def test_all_weights(name: str, root: Path, tmp_path: Path) -> None:
    base = make(name, root / "base", tmp_path / "base")
    done = trained(root, base, tmp_path / "sft")
    before, after = (json.loads((at / "config.json").read_text()) for at in (base, done))
    assert after.get("output_router_logits") == before.get("output_router_logits")
    assert {name: after[name] for name in before if name != "vocab_size"} == {
        name: before[name] for name in before if name != "vocab_size"
    }
    assert len(replies(done)) == 4
    folder = published(done, tmp_path / "published")
    assert torch.allclose(logits(folder), logits(done), atol=1e-5)


@pytest.mark.parametrize("name", each(*QUICK))
def test_lora(name: str, root: Path, tmp_path: Path) -> None:
    base = make(name, root / "base", tmp_path / "base")
    done = trained(root, base, tmp_path / "sft", lora=LORA)
    assert len(replies(done)) == 4
    merged = logits(published(done, tmp_path / "published"))
    assert torch.allclose(logits(done), merged, atol=1e-5)
    # The adapter alone is worked into its base while it is published: the same model.
    own = logits(published(done / "adapter", tmp_path / "adapter"))
    assert own.shape == merged.shape and torch.allclose(own, merged, atol=1e-4)
    one, two = (BudgetCard.load(tmp_path / at) for at in ("published", "adapter"))
    assert one.provenance.stages == two.provenance.stages != []


def test_a_routers_loss_is_that_of_the_fused_path(root: Path, tmp_path: Path) -> None:
    base = make("mixtral", root / "base", tmp_path / "base")
    config = sft_config(root, model=str(base), out=tmp_path / "out")
    policy = load_policy_model(str(base), PromptSettings(), seed=3)
    rows = list(read_rows(config.input, MixedRow))
    trainer = make_trainer(config, tmp_path, rows, *policy)
    trainer.current_gradient_accumulation_steps = 2
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(4)])
    found = []
    for plain in (True, False):
        trainer._plain_loss = plain
        found.append(trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=97).item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    trainer._plain_loss, trainer.aux_loss_enabled = True, False
    bare = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=97).item()
    assert bare < found[0]


@pytest.mark.slow
@pytest.mark.vllm
def test_vllm_says_what_our_sampler_says(root: Path, tmp_path: Path) -> None:
    folders = [make(name, root / "mix" / "tokenizer", tmp_path / name) for name in SERVED]
    for folder in folders:
        PromptSettings().save(folder)
    command = [sys.executable, "-m", "tests.training.vllm_replies", *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"model"')]
    assert [line["model"] for line in lines] == list(SERVED), done.stderr[-2000:]
    for folder, line in zip(folders, lines, strict=True):
        own = {key: list(ids) for key, ids in replies(folder).items()}
        assert line["ids"] == own, folder.name


@pytest.mark.parametrize("name", ROUTED)
def test_rollouts_of_a_model_that_was_left_with_router_logits(
    name: str, root: Path, tmp_path: Path
) -> None:
    folder = make(name, root / "mix" / "tokenizer", tmp_path / "model")
    PromptSettings().save(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"output_router_logits": True}))
    assert len(replies(folder)) == 4


def test_the_table_in_the_docs_names_what_is_tried() -> None:
    text = (
        (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("| architecture |")[2]
    )
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|.*\| ([^|]*) \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == sorted(ARCHITECTURES)
    assert [name for name, served in rows if served == "yes"] == sorted(SERVED)
