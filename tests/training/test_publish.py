"""Stage publish: a folder that can be served, or an error and nothing in its place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extracot.card import BudgetCard, tokenizer_hash
from extracot.control import DEFAULT_RATIOS
from extracot.errors import CardError
from extracot.sketch import PromptSketch
from extracot_training.config.publish import PublishConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.card import CardFigures
from extracot_training.pipeline.files import sha256_of
from extracot_training.pipeline.stage import Manifest, Status
from extracot_training.policy.pretrained import load_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.publish.lineage import lineage
from extracot_training.stages.publish.stage import run
from tests.fixtures.tiny_model import build_tiny_model

REALISED = (0.25, 0.43, 0.62, 0.8, 1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as stage sft leaves it."""
    folder = build_tiny_model(tmp_path_factory.mktemp("model") / "sft")
    PromptSettings().save(folder)
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "sft"))


def config(model: Path, **changes: Any) -> PublishConfig:
    base = {"model": model, "out": model.parent / "published"}
    return PublishConfig.model_validate(base | changes)


def evaluation(
    folder: Path, model: Path, realised: tuple[float, ...] = REALISED, **also: Any
) -> Path:
    """A finished evaluation's report with these realised ratios."""

    def level(mean: float) -> dict[str, Any]:
        return {
            "realised": {"mean": mean, "p10": 0.7 * mean, "p90": 1.3 * mean},
            "accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6},
            "unclosed_rate": 0.01,
            "n": 40,
        }

    counts = {"mean": 60.0, "p50": 50.0, "p90": 90.0}
    bins = [{"max_prompt_tokens": None, "n": 40, "reasoning": counts, "answer": counts}]
    figures = {
        "dataset": "sums (test)",
        "samples": 2,
        "sampling": {"temperature": 0.7},
        "levels": {
            str(ratio): level(mean) for ratio, mean in zip(DEFAULT_RATIOS, realised, strict=True)
        },
        "policy": level(0.4),
        "baseline": {"native": bins, "full": bins},
        "tokenizer_hash": tokenizer_hash(load_tokenizer(str(model))),
        **also,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps({"card": figures}))
    return folder


def listing(folder: Path) -> set[str]:
    """Everything beside the model and the evaluation, hidden things too, but for the lock."""
    return {path.name for path in folder.iterdir()} - {"sft", "evaluate", ".published.lock"}


def test_a_draft_names_the_levels_and_claims_nothing(model: Path) -> None:
    outcome = run(config(model))
    assert outcome.counts == {"levels": 5, "draft": True}
    out = outcome.folder
    card = BudgetCard.load(out)
    assert not card.is_calibrated and card.baseline is None and card.sampling == {}
    assert [level.name for level in card.levels] == ["0.2", "0.4", "0.6", "0.8", "1.0"]
    assert card.policy is not None and card.policy.name == "auto"
    card.check_tokenizer(load_tokenizer(str(out)))
    assert "Draft: nothing was measured" in (out / "README.md").read_text()
    for name in ("model.safetensors", "tokenizer.json", "config.json", "generation_config.json"):
        assert (out / name).read_bytes() == (model / name).read_bytes()
    assert oct(out.stat().st_mode)[-3:] == "755"
    assert listing(model.parent) == {"published"}
    assert run(config(model)).status is Status.UP_TO_DATE


def test_a_measured_card_holds_the_evaluations_figures(model: Path, tmp_path: Path) -> None:
    draft = run(config(model, out=tmp_path / "draft")).folder
    weights = json.loads((draft / "report.json").read_text())["weights"]
    assert BudgetCard.load(draft).provenance.model_extra == {"weights": weights}
    found = evaluation(tmp_path / "evaluate", model, weights=weights)
    out = run(config(model, evaluation=found, name="sums", license="mit")).folder
    card = BudgetCard.load(out)
    card.check_increasing()
    assert [level.realised.mean for level in card.levels if level.realised] == list(REALISED)
    assert card.levels[0].n == 40 and card.levels[0].dataset == "sums (test)"
    assert card.policy is not None and card.policy.realised is not None
    assert card.sampling == {"temperature": 0.7, "samples": 2}
    assert card.baseline is not None and card.baseline.native_for(10_000) is not None
    page = (out / "README.md").read_text()
    assert "| 0.2 | `<COMP_20>` | 0.250 | 0.175 to 0.325 | 0.500 [0.400, 0.600] | 0.010 |" in page
    assert page.startswith('---\nlicense: "mit"\n') and "# sums\n" in page
    report = json.loads((out / "report.json").read_text())
    assert set(report["self_check"]["files"]["prompt_tokens"]) == {
        "0.2", "0.4", "0.6", "0.8", "1.0", "auto", "native", "none"
    }  # fmt: skip


def test_levels_measured_on_other_numbers_of_problems_are_told(model: Path, tmp_path: Path) -> None:
    found = evaluation(tmp_path / "evaluate", model)
    page = (run(config(model, evaluation=found)).folder / "README.md").read_text()
    assert "Measured on sums (test), 40 problems, " in page
    report = json.loads((found / "report.json").read_text())
    report["card"]["levels"]["0.4"]["n"] = 37
    (found / "report.json").write_text(json.dumps(report))
    out = run(config(model, evaluation=found, out=tmp_path / "again")).folder
    page = (out / "README.md").read_text()
    assert "Measured on sums (test), 37 to 40 problems a level (those that were answered), " in page


def test_the_card_says_what_its_problems_look_like(model: Path) -> None:
    sketch = PromptSketch.of(f"What is {n} and {n + 1}?" for n in range(40))
    assert sketch is not None
    found = evaluation(model.parent / "evaluate", model, prompts=sketch.model_dump())
    out = run(config(model, evaluation=found)).folder
    assert BudgetCard.load(out).prompts == sketch


def test_a_draft_gets_a_measured_card_and_keeps_its_weights(model: Path) -> None:
    out = run(config(model)).folder
    weights, page = (out / "model.safetensors").stat(), (out / "README.md").read_text()
    found = evaluation(model.parent / "evaluate", model)
    measured = config(model, evaluation=found)
    outcome = run(measured)
    assert (outcome.status, outcome.counts) == (Status.DONE, {"levels": 5, "draft": False})
    assert BudgetCard.load(out).is_calibrated and "Measured on" in (out / "README.md").read_text()
    assert "Draft" in page
    after = (out / "model.safetensors").stat()
    assert (after.st_ino, after.st_mtime) == (weights.st_ino, weights.st_mtime)
    for same in (measured, config(model)):
        assert run(same).status is Status.UP_TO_DATE
    evaluation(found, model, realised=(0.2, 0.4, 0.6, 0.8, 1.0))
    with pytest.raises(StageError, match=r"made with other input 'evaluation'; pass --force"):
        run(measured)
    evaluation(found, model, realised=(0.2, 0.4, 0.3, 0.8, 1.0))
    before = sha256_of(out)
    with pytest.raises(CardError):
        run(measured, force=True)
    assert sha256_of(out) == before and listing(model.parent) == {"published"}


@pytest.mark.parametrize(
    ("realised", "also", "message"),
    [
        ((0.25, 0.43, 0.40, 0.8, 1.0), {}, r"levels\[2\].realised.mean: 0.4 for level 0.6"),
        ((0.25, 0.25, 0.62, 0.8, 1.0), {}, r"levels\[1\].realised.mean: 0.25 for level 0.4"),
        (REALISED, {"tokenizer_hash": "sha256:" + "0" * 64}, "its tokenizer differs"),
        (REALISED, {"weights": "sha256:" + "0" * 64}, "its weights differ"),
        (REALISED, {"levels": {}}, "lacks level 0.2; it has: none"),
        (REALISED, {"samples": 0}, "field card.samples"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused(
    model: Path, realised: tuple[float, ...], also: dict[str, Any], message: str
) -> None:
    found = evaluation(model.parent / "evaluate", model, realised, **also)
    with pytest.raises((StageError, CardError), match=message) as error:
        run(config(model, evaluation=found))
    assert "\n" not in str(error.value)
    assert listing(model.parent) == set()


def test_a_level_that_was_not_realised_is_refused(model: Path) -> None:
    found = evaluation(model.parent / "evaluate", model)
    report = json.loads((found / "report.json").read_text())
    report["card"]["levels"]["0.4"]["realised"] = None
    (found / "report.json").write_text(json.dumps(report))
    with pytest.raises(CardError, match=r"level 0\.4 has no realised ratio"):
        run(config(model, evaluation=found))


def test_broken_models_are_refused_in_one_line(model: Path) -> None:
    def refused() -> str:
        with pytest.raises(StageError) as error:
            run(config(model))
        assert "\n" not in str(error.value)
        assert listing(model.parent) == set()
        return str(error.value)

    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "not whole safetensors weights" in refused()
    weights.rename(model / "pytorch_model.bin")
    assert "no .safetensors weights, only pytorch_model.bin" in refused()
    (model / "pytorch_model.bin").unlink()
    weights.write_bytes(whole)
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
    assert "names b.safetensors, which is not there" in refused()
    (model / "model.safetensors.index.json").unlink()
    small = {**json.loads((model / "config.json").read_text()), "vocab_size": 20}
    before = (model / "config.json").read_text()
    (model / "config.json").write_text(json.dumps(small))
    assert "the model has 20 rows for 360 tokens" in refused()
    (model / "config.json").write_text(before)
    (model / "renderer.json").unlink()
    assert "no renderer.json" in refused()
    PromptSettings(ratios=(0.3, 1.0)).save(model)
    with pytest.raises(Exception, match="<COMP_30> is not exactly one id"):
        run(config(model))
    PromptSettings().save(model)
    Manifest(
        stage="sft", config={}, decisive={}, inputs={}, git_revision=None, version=None, started="x"
    ).save(model)
    assert "stage 'sft' has not finished there" in refused()


def test_a_foreign_folder_is_left_alone(model: Path) -> None:
    out = model.parent / "published"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(StageError, match="not empty and no stage folder"):
            run(config(model), force=force)
    assert listing(out) == {"mine.txt"}
    (out / "mine.txt").unlink()
    assert run(config(model)).status is Status.DONE
    with pytest.raises(StageError, match=r"made with other settings: license .*--force"):
        run(config(model, license="mit"))
    assert run(config(model, license="mit"), force=True).status is Status.DONE
    assert 'license: "mit"' in (out / "README.md").read_text()
    assert listing(model.parent) == {"published"}


def test_a_type_can_be_chosen(model: Path) -> None:
    out = run(config(model, dtype="bfloat16")).folder
    before, after = load_file(model / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert all(torch.equal(before[name].bfloat16(), after[name]) for name in before)
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_adapter_is_merged_into_its_base(model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(3)
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    load_tokenizer(str(model)).save_pretrained(folder)
    PromptSettings().save(folder)
    out = run(config(folder, out=tmp_path / "merged")).folder
    merged = load_file(out / "model.safetensors")
    wanted = adapted.merge_and_unload().state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.allclose(merged[name], wanted[name])
    assert not torch.allclose(merged[name], load_file(model / "model.safetensors")[name])
    assert not list(out.glob("adapter*"))


def stage(folder: Path, name: str, counts: Any = (), **settings: Any) -> Path:
    """The manifest of a stage that has ended."""
    folder.mkdir(exist_ok=True)
    Manifest(
        stage=name,
        config={**settings, "out": str(folder)},
        decisive=settings,
        inputs={},
        git_revision="abc",
        version="0",
        started="s",
        finished="f",
        counts=dict(counts),
    ).save(folder)
    return folder


@pytest.mark.parametrize(
    ("mixed", "last", "chooses"),
    [
        ({"level": 5, "policy": 0}, "sft", False),
        ({"level": 5, "policy": 3}, "sft", True),
        ({"level": 5, "policy": 0}, "chrpo", True),
        ({}, "sft", True),
    ],
)
def test_auto_is_claimed_where_the_choice_was_taught(
    model: Path, tmp_path: Path, mixed: dict[str, int], last: str, chooses: bool
) -> None:
    mix = stage(tmp_path / "mix", "mix", mixed)
    stage(model, last, input=str(mix))
    out = run(config(model)).folder
    card = BudgetCard.load(out)
    assert (card.policy is not None) == chooses
    page = (out / "README.md").read_text()
    assert ("pick a level itself" in page, '`"auto"`' in page) == (chooses, chooses)
    checked = json.loads((out / "report.json").read_text())["self_check"]["files"]
    assert ("auto" in checked["prompt_tokens"]) == chooses


def test_a_name_is_what_the_model_is_served_by(model: Path) -> None:
    out = run(config(model, name="mine")).folder
    assert BudgetCard.load(out).model == "mine"
    page = (out / "README.md").read_text()
    assert "# mine" in page and "extracot-serve --model published" in page and "`mine`" in page
    for wrong in ("my model", "mine@0.4", "", "a\n"):
        with pytest.raises(ValueError, match="name"):
            config(model, name=wrong)


def test_the_stages_before_are_found_and_told(model: Path, tmp_path: Path) -> None:
    problems = stage(tmp_path / "problems", "problems")
    (problems / "report.json").write_text(
        json.dumps({"rows": 2, "synthetic": 2, "licenses": {"sums": "CC0-1.0"}})
    )
    mix = stage(tmp_path / "mix", "mix", compressed=str(problems), several=[str(problems)])
    first = stage(tmp_path / "sft-1", "sft", input=str(mix), model="Qwen/Qwen3-1.7B")
    stage(model, "sft", input=str(mix), model=str(first))
    assert [a.name for a in lineage(model)] == ["problems", "mix", "sft", "sft-2"]
    out = run(config(model)).folder
    card = BudgetCard.load(out)
    assert card.base_model == "Qwen/Qwen3-1.7B"
    assert card.provenance.stages == ["problems", "mix", "sft", "sft-2"]
    assert set(card.provenance.config_hashes) == set(card.provenance.stages)
    assert card.provenance.git_revision == "abc"
    page = (out / "README.md").read_text()
    assert "| sums | CC0-1.0 | yes |" in page and 'base_model: "Qwen/Qwen3-1.7B"' in page


@pytest.mark.slow
def test_kill_9_in_the_middle_leaves_nothing_half(model: Path) -> None:
    """Killed while weights are written; the older folder stays whole, the next run clears up."""
    run(config(model))
    out = model.parent / "published"
    before = sha256_of(out)
    code = (
        "import os, signal, sys, extracot_training.stages.publish.stage as stage\n"
        "from extracot_training.config.publish import PublishConfig\n"
        "def check(folder): os.kill(os.getpid(), signal.SIGKILL)\n"
        "stage.check_files = check\n"
        "stage.run(PublishConfig.model_validate_json(sys.argv[1]), force=True)\n"
    )
    text = config(model, license="mit").model_dump_json()
    done = subprocess.run([sys.executable, "-c", code, text], env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert sha256_of(out) == before
    (left,) = listing(model.parent) - {"published"}
    assert left.startswith(".published.publishing-")
    run(config(model, license="mit"), force=True)
    assert listing(model.parent) == {"published"}
    assert 'license: "mit"' in (out / "README.md").read_text()
    # Killed between the two renames: whole folders lie beside an empty place.
    out.rename(model.parent / ".published.publishing-x")
    assert run(config(model, license="mit")).status is Status.UP_TO_DATE
    assert listing(model.parent) == {"published"}


def test_a_server_that_does_not_start_publishes_nothing(model: Path) -> None:
    flags = ("--no-such-flag",)
    with pytest.raises(StageError, match=r"self-check: the server did not start; .*no-such-flag"):
        run(config(model, self_check="vllm", serve_arguments=flags))
    assert listing(model.parent) == set()


def test_figures_survive_the_way_through_the_report(tmp_path: Path, model: Path) -> None:
    figures = CardFigures.load(evaluation(tmp_path / "evaluate", model))
    assert CardFigures.model_validate(json.loads(figures.model_dump_json())) == figures
    with pytest.raises(StageError, match=r"no report\.json; want a finished folder of evaluate"):
        CardFigures.load(tmp_path)
