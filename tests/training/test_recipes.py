"""The larger recipes, dry: every command they would run has a configuration that parses, and every
folder a stage reads was made by a stage before it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training" / "recipes"
KEPT = ROOT / "training" / "kept" / "small"
# The rounds in which the bundled model learns levels.
LEVELS = ("sft-short", "sft-fixed", "sft-short-again", "sft-levels")

# Stands in for extracot-train: reads the flags and the configuration as it does, makes the folder.
STAND_IN = """
import json, os, re, sys
from pathlib import Path
from extracot_training.cli import config_class
from extracot_training.config.load import load_config
stage, flags = sys.argv[1], sys.argv[2:]
file, overrides = None, []
for name, value in zip(flags[::2], flags[1::2]):
    match name:
        case "--config": file = Path(value)
        case "--set": overrides.append(value)
        case "--out" | "--input": overrides.append(f"{name[2:]}={value}")
        case _: sys.exit(f"unknown flag {name}")
config = load_config(config_class(stage), file, overrides)
out = str(config.out.parent)
for text in re.findall(r"Path\\('([^']+)'\\)|'([^']+)'", repr(config)):
    path = Path(text[0] or text[1])
    if str(path).startswith(out + "/") and path != config.out and not path.is_dir():
        sys.exit(f"{stage}: {path} was not made by a stage before")
if "LOG" in os.environ:
    with open(os.environ["LOG"], "a") as log:
        print(config.out.name, *sorted(overrides), file=log)
config.out.mkdir(parents=True, exist_ok=stage == "publish")  # again, to add a card
if stage == "evaluate":
    right = 0.89 if config.out.name in os.environ.get("FAILING", "").split() else 0.9
    told = {"budgets": {"native": {"accuracy": {"mean": right}}}}
    (config.out / "report.json").write_text(json.dumps(told))
print("ran", stage)
"""


def dry(recipe: str, tmp_path: Path, *flags: str, log: Path | None = None) -> str:
    """What a recipe prints when its commands only read their configuration. ``log`` gets a line for
    each: the folder's name and the settings."""
    tmp_path.mkdir(exist_ok=True)
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    environment = os.environ | {
        "OUT": str(tmp_path / "out"),
        "DRY": "yes",
        "TRAIN_COMMAND": f"{sys.executable} {stand_in}",
    }
    if log is not None:
        environment["LOG"] = str(log)
    command = ["bash", str(RECIPES / f"{recipe}.sh"), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("recipe", ["tiny", "smollm2", "qwen3-1.7b"])
def test_recipes_fit_together(recipe: str, tmp_path: Path) -> None:
    stages = len(re.findall(r"(?m)^(?:LAUNCH=\S+ )?step ", (RECIPES / f"{recipe}.sh").read_text()))
    assert stages > 10
    assert dry(recipe, tmp_path).count("ran ") == stages


def test_a_recipe_can_begin_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("problems", "reference", "chrpo"):
        (tmp_path / "out" / name).mkdir(parents=True)
    monkeypatch.setenv("START", "published")
    told = dry("tiny", tmp_path)
    assert re.findall(r"ran (\w+)", told) == ["publish", "evaluate", "publish"]


def test_the_bundled_models_recipe_ends_with_its_checkpoint(tmp_path: Path) -> None:
    told = dry("small", tmp_path)
    assert told.count("ran evaluate") == 2  # whole traces, and the checkpoint
    assert "ran compare" not in told
    assert (tmp_path / "out" / "published").is_dir()


def test_smollm2_learns_short_solutions_first_and_levels_on_top(tmp_path: Path) -> None:
    dry("smollm2", tmp_path, log=tmp_path / "log")
    lines = (tmp_path / "log").read_text().replace(str(tmp_path), "").splitlines()
    flags = {line.split()[0]: line for line in lines}
    assert "model=/out/sft-first" in flags["sft-levels"]
    assert "also.1.traces=/out/teach-everyday" in flags["mix-levels"]
    assert "model=/out/sft-levels" in flags["chrpo"]


def test_measuring_again_asks_what_was_said(tmp_path: Path) -> None:
    assert dry("evaluate", tmp_path, "--limit", "7").count("ran ") == 4
    assert (tmp_path / "out" / "small-first-7").is_dir()
    dry("evaluate", tmp_path / "b", "--model", "runs/x/mine", "--families")
    assert (tmp_path / "b" / "out" / "mine-families").is_dir()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--limit", "0"], "--limit 0: want a whole number"),
        (["--limit"], "--limit wants a value"),
        (["--fast"], "unknown flag --fast; there are --model"),
    ],
)
def test_measuring_again_says_which_flag_is_wrong(flags: list[str], message: str) -> None:
    command = ["bash", str(RECIPES / "evaluate.sh"), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_what_is_kept_of_the_bundled_model_is_where_its_recipe_goes_on(tmp_path: Path) -> None:
    dry("small", tmp_path, "--kept", log=tmp_path / "log")
    ran = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    kept = {"compressor", "sft-again", "sft-levels"}
    assert ran >= {"annotate", "base", "mix-full", "compress", "mix-long", "chrpo", "published"}
    assert not ran & {*kept, "sft-single", "sft-whole", *LEVELS}
    out = tmp_path / "out"
    for name in kept:
        assert (out / name / "stage.json").is_file()
    for name in kept - {"compressor"}:
        assert AutoModelForCausalLM.from_pretrained(out / name).num_parameters() > 500_000
    # Both speak the tokens that the recipe's rows are made of.
    speech = {(KEPT / name / "tokenizer.json").read_bytes() for name in kept - {"compressor"}}
    assert len(speech) == 1


def test_the_bundled_models_baselines_are_matched_measured_and_compared(tmp_path: Path) -> None:
    told = dry("small", tmp_path, "--baselines", log=tmp_path / "log")
    lines = (tmp_path / "log").read_text().replace(str(tmp_path), "").splitlines()
    flags = {line.split()[0]: line for line in lines}
    made = {name.removeprefix("eval-") for name in flags if name.startswith("eval-")}
    assert told.count("ran evaluate") == len(made)
    assert made >= {
        *("small", "small-2", "sft", "fixed", "blind", "words", "tokenskip", "capped"),
        "length-penalty",
        *("families", "untrained", "whole", "none"),
    }
    assert not [name for name in made if name.startswith(("words-", "caps"))], "straw men"
    assert {"compare", "compare-rows", "compare-rewards"} <= flags.keys()
    # Each had the same rounds as ours: another folder of rows, the same start and settings.
    for other in ("blind", "words", "tokenskip"):
        for stage in (*LEVELS, "mix-short", "mix-long"):
            assert flags[f"{stage}-{other}"].replace(f"-{other}", "") == flags[stage]
    # And the second seed is the first but for its seed.
    for stage in ("sft-single", "sft-whole", "sft-again", *LEVELS, "sft", "chrpo"):
        second = flags[f"{stage}-2"]
        assert "seed=2" in second
        assert second.replace("-2", "").replace("seed=2", "seed=1") == flags[stage]


def test_whole_traces_are_learnt_before_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILING", "eval-again-2 eval-more-2")
    monkeypatch.setenv("STOP", "sft-short-2")
    dry("small", tmp_path, "--baselines", log=tmp_path / "log")
    lines = (tmp_path / "log").read_text().replace(str(tmp_path), "").splitlines()
    flags = {line.split()[0]: line for line in lines}
    assert "model=/out/sft-again " in flags["sft-short"] + " "
    assert "sft-more" not in flags
    assert {"input=/out/problems", "splits=[dev]"} <= set(flags["eval-again"].split())
    assert "model=/out/sft-more2-2 " in flags["sft-short-2"] + " "
    assert "model=/out/sft-more-2 " in flags["sft-more2-2"] + " "
    assert "sft-more3-2" not in flags


def test_a_seed_that_does_not_learn_ends_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = ("again", *("more", "more2", "more3", "more4", "more5", "more6", "more7"))
    monkeypatch.setenv("FAILING", " ".join(f"eval-{name}" for name in rounds))
    with pytest.raises(AssertionError, match="seed 1 has not learnt its whole traces in 8 rounds"):
        dry("small", tmp_path, log=tmp_path / "log")
    ran = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert "sft-more7" in ran
    assert not ran & set(LEVELS)


def test_the_rehearsal_has_every_step_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dry("qwen3-1.7b", tmp_path / "real", log=tmp_path / "real.log")
    for name in ("start/model", "start/data/gsm8k", "start/data/math", "start/data/math500"):
        (tmp_path / "small" / "out" / name).mkdir(parents=True)
    for name in ("gsm8k/train", "gsm8k/test", "math/train", "math500/test", "amc2023"):
        (tmp_path / "small" / "out" / "start" / "data" / f"{name}.jsonl").mkdir()
    monkeypatch.setenv("REHEARSE", "small")
    dry("qwen3-1.7b", tmp_path / "small", log=tmp_path / "small.log")
    real, small = (
        [line.split()[0] for line in (tmp_path / f"{name}.log").read_text().splitlines()]
        for name in ("real", "small")
    )
    assert [name for name in small if name != "chrpo-alone"] == real
    flags = (tmp_path / "small.log").read_text()
    assert flags.count("processes=2") == 2 and "trainer.use_vllm=false" in flags


def test_a_launch_that_cannot_work_ends_the_recipe_before_its_first_step(tmp_path: Path) -> None:
    environment = os.environ | {
        "OUT": str(tmp_path / "out"), "GPUS": "3", "DEVICE": "cpu",
        "TRAIN_COMMAND": f"{sys.executable} -m extracot_training.cli",
    }  # fmt: skip
    command = ["bash", str(RECIPES / "qwen3-1.7b.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.count("\n") == 1
    assert "'global_batch': want a multiple of batch x processes, 2 x 3 = 6" in done.stderr
    assert not (tmp_path / "out").exists()
