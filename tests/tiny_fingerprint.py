"""The checkpoint of the tiny recipe that is kept in the repository, and whether it is still what
the recipe would make: a fingerprint of every module, configuration and lock file behind it.

    python -m tests.tiny_fingerprint              the fingerprint, and what differs from the kept
    python -m tests.tiny_fingerprint --keep RUN   keep a finished run of training/recipes/tiny.sh

What the recipe does with the checkpoint (publishing, serving, evaluation) is not part of it: a test
run restores the kept folders and goes on from there (``START=published``). Modules count by their
syntax trees without docstrings, configurations by their values, scripts and locks by their lines
without comments, so words may change.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "data" / "tiny_recipe"
FINGERPRINT = KEPT / "fingerprint.json"
RECIPES = ROOT / "training" / "recipes"
# The first step that every run takes: what lies before it is kept.
FIRST_STEP = "published"
PACKAGES = {"extracot": ROOT, "extracot_training": ROOT / "training"}
LOCKS = ("cpu.txt", "training.txt")

# Stands for the run's folder in what is kept.
FOLDER = "<run>/"
# Rows that later steps and the tests read, of held-out problems alone.
ROWS = ("problems", "reference")
MODEL = "chrpo"
NOT_KEPT = ("log.jsonl", ".lock", "course.png")
LARGEST = 3 << 20


def fingerprint() -> dict[str, str]:
    """A hash of each part by its name, such as ``extracot_training.policy.trainer``."""
    steps = list(_steps())
    found = {f"recipe {name}": _hash(_lines(RECIPES / name)) for name in ("tiny.sh", "steps.sh")}
    for config in sorted({config for _, config in steps}):
        values = yaml.safe_load((ROOT / "training" / "configs" / f"{config}.yaml").read_text())
        found[f"configuration {config}"] = _hash(json.dumps(values, sort_keys=True))
    for lock in LOCKS:
        found[f"lock {lock}"] = _hash(_lines(ROOT / "requirements" / lock))
    trees: dict[str, ast.Module] = {}
    for name in _entries({stage for stage, _ in steps}):
        _collect(name, trees)
    return found | {name: _hash(_plain(tree)) for name, tree in sorted(trees.items())}


def differences() -> list[str]:
    """What is not as when the kept checkpoint was made; empty where it still holds."""
    if not FINGERPRINT.is_file():
        return [f"nothing is kept in {KEPT.relative_to(ROOT)}"]
    kept, now = json.loads(FINGERPRINT.read_text()), fingerprint()
    return sorted(name for name in kept | now if kept.get(name) != now.get(name))


def keep(run: Path) -> None:
    """Keep what a finished run needs to go on from :data:`FIRST_STEP`, and the fingerprint."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    for manifest in sorted(run.glob("*/stage.json")):
        folder = manifest.parent.name
        if folder in ("published", "evaluate"):
            continue
        _put(manifest, KEPT / folder / manifest.name, f"{run.absolute()}/", FOLDER)
        if folder in ROWS:
            rows = (run / folder / "rows.jsonl").read_text().splitlines(keepends=True)
            dev = "".join(row for row in rows if json.loads(row)["split"] == "dev")
            (KEPT / folder / "rows.jsonl.gz").write_bytes(gzip.compress(dev.encode(), mtime=0))
            shutil.copy(run / folder / "report.json", KEPT / folder)
    for path in sorted((run / MODEL).iterdir()):
        if path.is_file() and path.name not in (*NOT_KEPT, "stage.json"):
            shutil.copy(path, KEPT / MODEL)
    FINGERPRINT.write_text(json.dumps(fingerprint(), indent=1) + "\n")
    size = sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file())
    print(f"{KEPT.relative_to(ROOT)}: {size / (1 << 20):.2f} MiB")
    if size > LARGEST:
        raise SystemExit(f"want at most {LARGEST >> 20} MiB")


def restore(target: Path) -> None:
    """Lay what is kept into ``target``, as if the recipe had run there up to :data:`FIRST_STEP`."""
    for path in sorted(KEPT.rglob("*")):
        place = target / path.relative_to(KEPT)
        if path == FINGERPRINT or path.is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "stage.json":
            _put(path, place, FOLDER, f"{target.absolute()}/")
        elif path.suffix == ".gz":
            place.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copy(path, place)


def _put(source: Path, target: Path, before: str, after: str) -> None:
    """A copy in which one folder's name stands for another's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text().replace(before, after))


def _steps() -> Iterator[tuple[str, str]]:
    """(stage, configuration) of each step before :data:`FIRST_STEP`."""
    text = (RECIPES / "tiny.sh").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("step "):
            _, name, stage, config, *_ = shlex.split(line, comments=True)
            if name == FIRST_STEP:
                return
            yield stage, config


def _entries(stages: set[str]) -> list[str]:
    """The command line's module, and each stage's own with its settings."""
    own = [
        name
        for stage in sorted(stages)
        for name in (
            f"extracot_training.config.{stage}", f"extracot_training.stages.{stage}.stage",
        )
    ]  # fmt: skip
    if missing := [name for name in own if _path(name) is None]:
        raise LookupError(f"no module {missing[0]}")
    return ["extracot_training.cli", *own]


def _collect(name: str, trees: dict[str, ast.Module]) -> None:
    """The module, the packages it lies in, and all it imports from our packages, anywhere in it."""
    if name in trees or (path := _path(name)) is None:
        return
    tree = trees[name] = ast.parse(path.read_text())
    if parent := name.rpartition(".")[0]:
        _collect(parent, trees)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _collect(alias.name, trees)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{name}: a relative import"
            _collect(node.module, trees)
            for alias in node.names:  # a module, or just a name
                _collect(f"{node.module}.{alias.name}", trees)


def _path(name: str) -> Path | None:
    """Where the module lies; ``None`` for one that is not ours, or no module."""
    first = name.partition(".")[0]
    if first not in PACKAGES:
        return None
    place = PACKAGES[first] / name.replace(".", "/")
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def _plain(node: Any) -> str:
    """A syntax tree as text, without docstrings and without fields that only new Pythons have."""
    if isinstance(node, list):
        return "[" + ",".join(map(_plain, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                fields["body"] = rest
    text = ",".join(
        f"{name}={_plain(value)}"
        for name, value in sorted(fields.items())
        if value is not None and value != [] and name not in ("kind", "type_comment")
    )
    return f"{type(node).__name__}({text})"


def _lines(path: Path) -> str:
    """The lines that say something, without indentation and whole-line comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests.tiny_fingerprint", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="RUN", help="folder of a finished run")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        keep(arguments.keep)
    parts = fingerprint()
    print(_hash(json.dumps(parts, sort_keys=True)), f"of {len(parts)} parts")
    found = differences()
    for name in found:
        print("differs:", name)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
