"""Processes of `extracot-train run`: stages that are killed, and what ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from extracot_training.errors import StageError
from extracot_training.pipeline.parents import die_with_parent
from extracot_training.run.children import in_child


def test_a_stage_that_is_killed_is_told_apart_from_one_that_fails() -> None:
    def killed() -> int:
        signal.raise_signal(signal.SIGKILL)
        return 0

    def refused() -> int:
        raise StageError("no\nroom")

    assert in_child("sft", lambda: 3, {}) == 3
    assert in_child("sft", refused, {}) == 1
    with pytest.raises(StageError, match="stage sft was ended by SIGKILL; out of memory"):
        in_child("sft", killed, {})


def test_a_stage_whose_run_has_ended_before_it_begins_does_not_begin() -> None:
    def orphaned() -> int:
        die_with_parent(os.getpid())  # which is not whose child it is
        return 0

    with pytest.raises(StageError, match="stage sft was ended by SIGTERM"):
        in_child("sft", orphaned, {})


def test_a_process_that_is_ended_takes_its_engine_along() -> None:
    script = (
        "import multiprocessing, signal\n"
        "from extracot_training.pipeline.parents import take_children_along\n"
        "engine = multiprocessing.get_context('fork').Process(target=signal.pause)\n"
        "engine.start()\ntake_children_along()\nprint('loaded', flush=True)\nengine.join()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.stdout.read() == "", "the pipe closes when the engine has ended as well"
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_engine_does_not_outlive_a_process_that_is_killed(tmp_path: Path, method: str) -> None:
    (tmp_path / "killed.py").write_text(
        "import multiprocessing, os, signal, sys\n"
        "from extracot_training.pipeline.parents import tied\n"
        "def engine():\n    print(os.getpid(), flush=True)\n    signal.pause()\n"
        "if __name__ == '__main__':\n"
        "    context = tied(multiprocessing.get_context(sys.argv[1]))\n"
        "    assert context.get_start_method() == sys.argv[1]\n"
        "    process = context.Process(target=engine)\n    process.start()\n    process.join()\n"
    )
    words = [sys.executable, str(tmp_path / "killed.py"), method]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) != process.pid
        process.kill()
        assert process.stdout.read() == "", "the pipe closes when the engine has ended as well"
