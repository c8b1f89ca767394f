"""The OpenAI SDK for JavaScript, unchanged: its calls are in ``openai_node.mjs``, run by node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, serve

SCRIPT = Path(__file__).with_name("openai_node.mjs")
EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"


def test_the_sdk_for_javascript(token_server: Live, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    if not (EXAMPLES / "node_modules" / "openai").is_dir():
        pytest.skip("the openai package is not installed (npm ci in clients/examples)")
    keys = tmp_path / "keys.yaml"
    entry = {"name": "a", "key": "sk-right", "default": 0.4, "requests_per_minute": 1}
    keys.write_text(yaml.safe_dump({"keys": [entry]}))
    endless = ScriptedBehaviour(token_interval_seconds=0.05, never_close=True)
    with (
        serve(keys=keys) as keyed,
        serve(endless) as slow,
        serve(ScriptedBehaviour(die_after_tokens=3), on_engine_death="stay") as failing,
    ):
        servers = {"OPEN": token_server, "KEYED": keyed, "SLOW": slow, "FAILING": failing}
        done = subprocess.run(
            ["node", "--test", "--test-reporter=tap", str(SCRIPT)],
            env={
                **os.environ,
                **{f"EXTRACOT_{name}": live.url for name, live in servers.items()},
                "EXTRACOT_EXAMPLES": str(EXAMPLES),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        slow.wait_for(lambda: slow.in_flight() == 0)
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed and int(passed[1]) >= 30
