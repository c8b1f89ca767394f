"""docs/profiles.md has the families as they are, and an example that is a profile."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP
from extracot_server.profiles.profile_file import own_profiles

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")


def test_the_table_of_families_is_current() -> None:
    place = ROOT / "scripts" / "profile_table.py"
    spec = importlib.util.spec_from_file_location("profile_table", place)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.updated(TEXT) == TEXT, "run: python scripts/profile_table.py"


def test_the_example_is_a_profile(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, flags=re.M | re.S)
    path = tmp_path / "mine.yaml"
    path.write_text(block)
    (profile,) = own_profiles(path)
    assert (profile.name, profile.baseline) == ("mine", 3000)
    assert profile.efforts == ("low", "high")


def test_the_figures_of_efforts_are_those_of_the_map() -> None:
    found = re.findall(r'reasoning_effort: "(\w+)"`[^|]*\| ([0-9.]+) × baseline', TEXT)
    assert found
    assert all(DEFAULT_EFFORT_MAP[effort] == float(ratio) for effort, ratio in found)
