"""The larger recipes, dry: every command they would run has a configuration that parses, and every
folder a stage reads was made by a stage before it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training" / "recipes"

# Stands in for extracot-train: reads the flags and the configuration as it does, makes the folder.
STAND_IN = """
import re, sys
from pathlib import Path
from extracot_training.cli import STAGES, _attribute
from extracot_training.config.load import load_config
stage, flags = sys.argv[1], sys.argv[2:]
file, overrides = None, []
for name, value in zip(flags[::2], flags[1::2]):
    match name:
        case "--config": file = Path(value)
        case "--set": overrides.append(value)
        case "--out" | "--input": overrides.append(f"{name[2:]}={value}")
        case _: sys.exit(f"unknown flag {name}")
config = load_config(_attribute(STAGES[stage].config), file, overrides)
out = str(config.out.parent)
for text in re.findall(r"Path\\('([^']+)'\\)|'([^']+)'", repr(config)):
    path = Path(text[0] or text[1])
    if str(path).startswith(out + "/") and path != config.out and not path.is_dir():
        sys.exit(f"{stage}: {path} was not made by a stage before")
config.out.mkdir(parents=True)
print("ran", stage)
"""


@pytest.mark.parametrize("recipe", ["tiny", "smollm2-135m", "qwen3-1.7b"])
def test_recipes_fit_together(recipe: str, tmp_path: Path) -> None:
    stages = len(re.findall(r"(?m)^(?:LAUNCH=\S+ )?step ", (RECIPES / f"{recipe}.sh").read_text()))
    assert stages > 10
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    environment = os.environ | {
        "OUT": str(tmp_path / "out"),
        "DRY": "yes",
        "TRAIN_COMMAND": f"{sys.executable} {stand_in}",
    }
    done = subprocess.run(
        ["bash", str(RECIPES / f"{recipe}.sh")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    assert done.stdout.count("ran ") == stages
