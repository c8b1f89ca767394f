"""Schemathesis on the real app: what the document allows is served, what it forbids is refused.

Its own command, so that all its phases run: the examples, the edges of each field, random bodies,
right and wrong, and calls that follow from others. Every check is on. The same cases in every run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import serve

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [{"name": "tester", "key": "sk-tester"}]}))
    little_room = ScriptedBehaviour(max_model_len=2048)  # replies are short then
    with serve(
        little_room,
        keys=keys,
        max_choices=4,
        protect_metrics=True,
        tool_parser="hermes",
        batch_folder=tmp_path / "batches",
    ) as live:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{live.url}/openapi.json"),
            *("--header", "Authorization:Bearer sk-tester", "--checks", "all", "--seed", "1"),
            "--generation-deterministic",
            *("--max-examples", "10", "--continue-on-failure", "--suppress-health-check", "all"),
            *("--no-shrink", "--no-color", "--request-timeout", "60"),
        ]
        done = subprocess.run(
            command,
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
