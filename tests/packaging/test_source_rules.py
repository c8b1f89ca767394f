"""Rules that linters do not check, each tested on the source or in a fresh process."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "extracot": ROOT / "extracot",
    "extracot_server": ROOT / "server/extracot_server",
    "extracot_training": ROOT / "training/extracot_training",
    "extracot_client": ROOT / "clients/python/extracot_client",
}
MODULES = [
    path
    for folder in (*PACKAGES.values(), ROOT / "scripts", ROOT / "tests")
    for path in sorted(folder.rglob("*.py"))
]
LONGEST_FILE = 400
HEAVY = ("torch", "vllm", "transformers", "fastapi", "datasets", "trl", "gradio", "matplotlib")


def named(path: Path) -> str:
    """A path as people write it."""
    return str(path.relative_to(ROOT))


def imported_roots(path: Path) -> set[str]:
    """Top-level names of everything a module imports, at any depth of its code."""
    roots: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            roots.add(node.module.split(".")[0])
    return roots


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded because of ``code``."""
    program = f"""
import sys
before = set(sys.modules)
try:
    {code}
except SystemExit as stop:
    assert not stop.code, stop.code
import json
print()
print(json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - before}})))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return {name for name in names if not name.startswith("_sysconfigdata")}


def test_every_module_says_what_it_is_for() -> None:
    silent = []
    for path in MODULES:
        source = path.read_text()
        if source and not ast.get_docstring(ast.parse(source)):
            silent.append(named(path))
    assert silent == []


def test_no_module_is_too_long_to_read() -> None:
    lengths = {named(path): len(path.read_text().splitlines()) for path in MODULES}
    too_long = {
        name: length
        for name, length in lengths.items()
        if length > LONGEST_FILE and not name.startswith("tests/")
    }
    assert too_long == {}


def test_the_contract_imports_the_standard_library_and_pydantic_only() -> None:
    allowed = sys.stdlib_module_names | {"extracot", "pydantic", "pydantic_core"}
    others = {
        named(path): imported_roots(path) - allowed
        for path in PACKAGES["extracot"].rglob("*.py")
        if not imported_roots(path) <= allowed
    }
    assert others == {}


def test_importing_the_contract_loads_nothing_but_pydantic() -> None:
    loaded = modules_after("import extracot")
    pydantics = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions"}
    own = {"extracot", "typing_inspection"}
    assert loaded - sys.stdlib_module_names - pydantics - own == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_is_light(package: str) -> None:
    assert modules_after(f"import {package}").isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("extracot", "extracot_client.cli"),
        ("extracot-serve", "extracot_server.cli"),
        ("extracot-train", "extracot_training.cli"),
    ],
)
def test_help_imports_nothing_heavy(command: str, module: str) -> None:
    code = f"sys.argv = ['{command}', '--help']; import {module}; sys.exit({module}.main())"
    assert modules_after(code).isdisjoint(HEAVY)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package: str) -> None:
    assert (PACKAGES[package] / "py.typed").exists()


@pytest.mark.parametrize(
    "pattern",
    [
        r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b",
        r"\btime\.sleep" r"\(",
        r"(/root|/home/\w+|/work)/" r"\w",
        r"pypi\." r"org|pythonhosted\." r"org|npmjs\." r"org|deb\." r"debian",
    ],
)
def test_source_is_free_of(pattern: str) -> None:
    found = [
        f"{named(path)}:{number}: {line.strip()}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_no_module_is_named_for_nothing() -> None:
    assert [named(path) for path in MODULES if path.stem in ("utils", "util", "helpers")] == []
