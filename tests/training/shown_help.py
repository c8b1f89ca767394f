"""What ``extracot-train``'s help says of every stage, and what had to be imported for it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass

from extracot_training.cli import STAGES

HEAVY = ("torch", "transformers", "datasets", "vllm", "httpx", "numpy", "sympy", "reasoning_gym")
_ASKING = """
import contextlib, io, json, sys
from extracot_training.cli import main
heavy, shown = sys.argv[1].split(","), {}
for stage in sys.argv[2:]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main([stage, "--help"] if stage else ["--help"])
    loaded = [name for name in heavy if name in sys.modules]
    shown[stage] = {"code": code, "text": said.getvalue(), "loaded": loaded}
print(json.dumps(shown))
"""


@dataclass(frozen=True)
class Help:
    """Of one stage; "" is the command's own. ``loaded``: the heavy libraries imported by then."""

    code: int
    text: str
    loaded: list[str]


@functools.cache
def shown_help() -> dict[str, Help]:
    """By stage, all asked for in one process: a start of Python for each took most of the time."""
    done = subprocess.run(
        [sys.executable, "-c", _ASKING, ",".join(HEAVY), "", *STAGES],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {stage: Help(**found) for stage, found in json.loads(done.stdout).items()}
