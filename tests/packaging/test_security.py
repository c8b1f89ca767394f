"""What no module of ours may do, looked for in the source: run foreign code, trust, or leak."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.test_source_rules import PACKAGES, ROOT, named

SOURCES = [path for folder in PACKAGES.values() for path in sorted(folder.rglob("*.py"))]
SOURCES += sorted((ROOT / "scripts").glob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))
# The wall clock may say when something was, never how long it took: it jumps.
WALL_CLOCK = {
    "server/extracot_server/batches/entries.py": 2,  # how long an upload, or a deletion, lay there
    "server/extracot_server/batches/records.py": 1,  # ids in the order in which they are made
    "server/extracot_server/generation/request.py": 1,  # `created` of a model
    "server/extracot_server/ledger/sqlite.py": 1,  # the machine's, as the store's own clock
    "server/extracot_server/budget/holdout.py": 1,  # `since` of the comparison
    "server/extracot_server/api/usage.py": 1,  # the last days' usage
    "server/extracot_server/engine/remote/wire.py": 1,  # a date in Retry-After
    "server/extracot_server/runtime/keys_command.py": 1,  # a line of the audit log
    "server/extracot_server/observability/plain_histogram.py": 1,  # `_created` of a histogram
    "server/extracot_server/api/chat/response.py": 1,  # `created` of a reply
    "server/extracot_server/api/responses/response.py": 2,  # `created_at` and `completed_at`
}


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Every call in a module and the dotted name of what is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def keyword(call: ast.Call, name: str) -> str | None:
    """The source of a keyword argument."""
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


def found(wrong: str) -> list[str]:
    """Places of one kind of mistake."""
    places = []
    for path in SOURCES:
        for call, name in calls(path):
            if is_wrong(wrong, call, name):
                places.append(f"{named(path)}:{call.lineno}: {name}")
    return places


def is_wrong(kind: str, call: ast.Call, name: str) -> bool:
    """Whether a call is a mistake of this kind."""
    match kind:
        case "runs text":
            return name in ("eval", "exec", "compile", "os.system", "os.popen", "__import__")
        case "runs a shell":
            return keyword(call, "shell") not in (None, "False")
        case "loads pickles":
            loads = name.startswith(("pickle.", "dill.", "joblib.", "cloudpickle."))
            return loads or (name == "torch.load" and keyword(call, "weights_only") != "True")
        case "loads any YAML":
            return name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load")
        case "trusts a checkpoint's code":
            return keyword(call, "trust_remote_code") not in (None, "False")
        case "checks no certificate":
            return keyword(call, "verify") == "False"
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "runs text",
        "runs a shell",
        "loads pickles",
        "loads any YAML",
        "trusts a checkpoint's code",
        "checks no certificate",
    ],
)
def test_no_module(kind: str) -> None:
    assert found(kind) == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("eval(x)", "runs text"),
        ("subprocess.run(x, shell=True)", "runs a shell"),
        ("torch.load(x)", "loads pickles"),
        ("pickle.loads(x)", "loads pickles"),
        ("yaml.load(x, Loader=l)", "loads any YAML"),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", "trusts a checkpoint's code"),
        ("httpx.get(x, verify=False)", "checks no certificate"),
    ],
)
def test_the_search_finds_what_it_is_for(source: str, kind: str) -> None:
    ((call, name),) = [
        (node, ast.unparse(node.func))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
    ]
    assert is_wrong(kind, call, name)


def wall_clock_reads(path: Path) -> int:
    """Reads of a clock that can be set: `time.time`, `datetime.now` and their like."""
    tree = ast.parse(path.read_text())
    plain = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in ("time", "time_ns", "localtime", "gmtime")
    }
    ends = ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today")
    return sum(name in plain or name.endswith(ends) for _, name in calls(path))


def test_the_server_measures_with_clocks_that_do_not_jump() -> None:
    reads = {
        named(path): count
        for path in sorted(PACKAGES["extracot_server"].rglob("*.py"))
        if (count := wall_clock_reads(path))
    }
    assert reads == WALL_CLOCK
