"""What children print while an engine starts: held back from the first failure on."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def trial(lines: list[str], *, hold: bool = True, fails: bool = False) -> str:
    """Standard error of a process whose child prints ``lines`` during a start."""
    code = f"""
import re, subprocess, sys
from extracot_server.engine.vllm.child_output import ChildOutput
child = "import sys; [print(line, file=sys.stderr, flush=True) for line in sys.argv[1:]]"
output = ChildOutput(hold={hold}, drop=re.compile("noise"))
try:
    with output:
        subprocess.run([sys.executable, "-c", child, *{lines!r}], check=True)
        {"1 / 0" if fails else "pass"}
except ZeroDivisionError:
    pass
output.drain(60)
print("ours", flush=True)
print("held:", len(output.held), file=sys.stderr, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"ours\n"
    return done.stderr.decode()


TRACEBACK = ["before", "Traceback (most recent call last):", "  deep", "ValueError: why"]


def test_ordinary_lines_pass_and_noise_does_not() -> None:
    printed = trial(["hello", "some noise", "there"])
    assert "hello\nthere\n" in printed
    assert "noise" not in printed


def test_a_failed_start_keeps_the_traceback_to_itself() -> None:
    printed = trial(TRACEBACK, fails=True)
    assert printed == "before\nheld: 3\n"


def test_a_start_that_succeeds_after_all_prints_what_was_held() -> None:
    printed = trial(TRACEBACK)
    assert [line for line in printed.splitlines() if "held" not in line] == TRACEBACK


def test_without_holding_everything_passes() -> None:
    printed = trial(TRACEBACK, hold=False, fails=True)
    assert printed == "\n".join([*TRACEBACK, "held: 3\n"])


@pytest.mark.parametrize("end", ["\r", "\n"])
def test_progress_bars_pass_piece_by_piece(end: str) -> None:
    printed = trial([f"10%{end}20%"])
    assert re.search(f"10%{end}20%", printed)
