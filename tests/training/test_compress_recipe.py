"""The recipe, small: five stages with real MiniLM; and every configuration that ships parses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from extracot_training.cli import config_class
from extracot_training.config.load import load_config
from extracot_training.pipeline.records import CompressedTrace, read_rows
from extracot_training.pipeline.stage import Manifest
from tests.training.shown_help import shown_help

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "training" / "configs"
MINE = ("annotate", "compressor", "compress", "reader", "fidelity")


@pytest.mark.parametrize(
    "file", [path for path in sorted(CONFIGS.glob("*.yaml")) if path.stem.split("-")[0] in MINE],
    ids=lambda path: path.stem,
)  # fmt: skip
def test_shipped_configurations_parse(file: Path) -> None:
    load_config(config_class(file.stem.split("-")[0]), file)


@pytest.mark.parametrize("stage", MINE)
def test_help_is_instant(stage: str) -> None:
    shown = shown_help()[stage]
    assert shown.code == 0
    assert not {"torch", "transformers", "numpy", "httpx"} & set(shown.loaded)
    assert "settings:" in shown.text


@pytest.mark.slow
def test_the_small_recipe_makes_compressed_traces(tmp_path: Path) -> None:
    environment = os.environ | {
        "OUT": str(tmp_path / "out"),
        "TRAIN_COMMAND": f"{sys.executable} -m extracot_training.cli",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = ["bash", str(ROOT / "training" / "recipes" / "compressor_cpu.sh"), "--small"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("problems", "teach", "annotate", "model", "compress"):
        manifest = Manifest.load(tmp_path / "out" / name)
        assert manifest is not None
        assert manifest.finished
    figures = json.loads((tmp_path / "out" / "compress" / "report.json").read_text())
    assert figures["all"] == (16 + 8 + 4 + 12) * 5
    rows = list(read_rows(tmp_path / "out" / "compress" / "all.jsonl", CompressedTrace))
    for row in rows:
        assert abs(row.realised - row.target) <= 0.05
