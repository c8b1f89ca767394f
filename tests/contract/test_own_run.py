"""Forty problems of one's own and a base model (random weights, or SmolLM2-135M) to a served
checkpoint by one command, every stage of it, killed in a training and gone on with.

Random weights learn nothing in three steps; what is tested is the way. SmolLM2 learns in two dozen
where to end its reasoning, which all that is measured afterwards needs. docs/experiments.md says
how long it takes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from extracot.card import BudgetCard
from extracot_training.pipeline.stage import Manifest
from tests.fixtures.tiny_model import build_tiny_model
from tests.training.test_run import rows, write

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1800)]

SMALL = (
    "reference-fixed.limit=4", "reference-fixed.k=1", "reference.limit=4", "reference.k=4",
    "chrpo.steps=2", "chrpo.evaluation.problems=1", "evaluate.limit=2",
)  # fmt: skip


@dataclass(frozen=True)
class Own:
    """Somebody's model and problems, and what they ask for. ``sft`` has the steps of the two
    trainings; the first is killed once ``killed`` of them are logged."""

    model: str
    fields: str
    levels: tuple[str, ...]
    sft: tuple[int, int]
    flags: tuple[str, ...] = ()
    compressor: tuple[str, ...] = ()
    killed: int = 0

    @property
    def steps(self) -> tuple[str, ...]:
        """The folders of the stages, in order."""
        return (
            "problems", "teach", *self.compressor, "compress", "mix-fixed", "sft-fixed",
            "reference-fixed", "mix", "sft", "reference", "chrpo", "published", "evaluate",
        )  # fmt: skip


OWN = {
    "random": Own(
        "base", "question=prompt,answer=final,solution=cot", ("0.5", "1.0"), (3, 2),
        ("--levels", "0.5,1.0", "--compressor", "train", "--set", "compressor.epochs=1",
         "--set", "compressor.layers=1"), ("annotate", "compressor"),
    ),
    "smollm2": Own(
        "bundled:smollm2", "question=task,answer=result,solution=worked",
        ("0.2", "0.4", "0.6", "0.8", "1.0"), (24, 6), killed=12,
    ),
}  # fmt: skip


def command(own: Own, root: Path) -> list[str]:
    steps = (f"{name}.max_steps={most}" for name, most in zip(("sft-fixed", "sft"), own.sft,
             strict=True))  # fmt: skip
    changes = [word for text in (*SMALL, *steps) for word in ("--set", text)]
    model = own.model if ":" in own.model else str(root / own.model)
    return [
        sys.executable, "-m", "extracot_training.cli", "run", "--model", model,
        "--problems", str(root / "mine.jsonl"), "--fields", own.fields, "--out", str(root / "run"),
        "--device", "cpu", "--name", "mine", *own.flags, *changes,
    ]  # fmt: skip


LONG = pytest.mark.skipif(
    os.environ.get("TEST_SMOLLM2") != "1",
    reason="takes minutes: TEST_SMOLLM2=1 runs it",
)


@pytest.fixture(
    scope="module",
    params=["random", pytest.param("smollm2", marks=LONG)],
)
def own(request: pytest.FixtureRequest) -> Own:
    return OWN[request.param]


@pytest.fixture(scope="module")
def root(own: Own, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its first training, and then run to its end."""
    root = tmp_path_factory.mktemp("own")
    if ":" in own.model:
        shutil.copy(Path(__file__).with_name("own_problems.jsonl"), root / "mine.jsonl")
    else:
        build_tiny_model(root / own.model)
        write(root / "mine.jsonl", rows(40))
    with closing(started(command(own, root))) as lines:
        for line in lines:
            if line.startswith("sft-fixed: "):
                break
        pause = threading.Event()
        while len(steps_of(root)) < own.killed:
            pause.wait(0.2)
    return root


def environment() -> dict[str, str]:
    """One thread, unless somebody says that there are cores to spare."""
    return {"OMP_NUM_THREADS": "1"} | dict(os.environ)


def steps_of(root: Path) -> list[int]:
    """The steps that the first training has logged."""
    log = root / "run" / "sft-fixed" / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def started(words: list[str]) -> Generator[str, None, None]:
    """What the command prints; it is killed when nobody wants more."""
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        stdin=subprocess.DEVNULL, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    with process:  # waits, and closes the pipe
        try:
            for line in process.stdout:
                print(line, end="")
                yield line
        finally:
            process.kill()
            process.stdout.read()  # until the stage that ran has ended as well


def test_a_killed_run_goes_on_to_a_checkpoint_with_a_card(own: Own, root: Path) -> None:
    finished = {name for name in own.steps if (found := Manifest.load(root / "run" / name))
                and found.finished}  # fmt: skip
    assert "compress" in finished and "sft-fixed" not in finished
    before = {name: Manifest.load(root / "run" / name) for name in finished}
    done = subprocess.run(
        command(own, root), capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env=environment(),
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "goes on in" in done.stdout and done.stdout.count(": up to date in ") == len(finished)
    for name in own.steps:
        found = Manifest.load(root / "run" / name)
        assert found is not None and found.finished is not None, name
        assert before.get(name, found) == found, "made once"
    assert steps_of(root) == [*range(1, own.sft[0] + 1)], "none is lost, none there twice"
    card = BudgetCard.load(root / "run" / "published")
    assert tuple(level.name for level in card.levels) == own.levels and card.policy is not None
    assert card.model == "mine"
    assert f"extracot-serve --model {root / 'run' / 'published'}" in done.stdout
    report = (root / "run" / "report.md").read_text()
    assert card.is_calibrated or "The card is a draft" in report
    for picture in ("sft-fixed/loss.png", "chrpo/course.png", "evaluate/accuracy_tokens.png"):
        assert picture in report and (root / "run" / picture).read_bytes()[:4] == b"\x89PNG"


def test_a_stage_of_it_is_run_by_hand_from_its_configuration(root: Path) -> None:
    file = root / "run" / "configs" / "compress.yaml"
    words = [sys.executable, "-m", "extracot_training.cli", "compress", "--config", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "compress: up to date in" in done.stdout


def test_a_signal_ends_the_stage_with_its_run() -> None:
    """The child of a killed run is ended too, so that the same command finds nobody at work."""
    script = (
        "import os, signal\nfrom extracot_training.run.children import in_child\n"
        "def work():\n    print(os.getpid(), flush=True)\n    signal.pause()\n    return 0\n"
        "in_child('x', work, {})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it works
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == "", "the pipe closes when the child has ended"
