"""docs/architecture.md names every module with what it says of itself."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_script() -> ModuleType:
    """The script as a module; it is no package's."""
    place = ROOT / "scripts" / "module_index.py"
    spec = importlib.util.spec_from_file_location("module_index", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_modules_is_current() -> None:
    script = load_script()
    document = script.DOCUMENT.read_text(encoding="utf-8")
    assert script.updated(document) == document, "run: python scripts/module_index.py"


@pytest.mark.parametrize(
    ("heading", "place"),
    [
        ("One request", "server/extracot_server"),
        ("One training run", "training/extracot_training/stages"),
    ],
)
def test_a_request_and_a_training_run_are_eight_lines_of_folders(heading: str, place: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition(f"## {heading}, in eight lines")[2].partition("\n## ")[0]
    numbered = [line for line in section.splitlines() if line[:2].rstrip(".").isdigit()]
    assert len(numbered) == 8
    for line in numbered:
        folder = re.match(r"\d\. `(\w+)/`", line)
        assert folder is not None, line
        assert (ROOT / place / folder[1]).is_dir(), line
