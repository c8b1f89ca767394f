"""Each example, run as its reader would run it, against the real app."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import extracot_client
from tests.clients.conftest import LiveServer
from tests.clients.fake_server import WAIT

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"


def run(live: LiveServer, *command: str) -> str:
    """Run in the examples' folder; gives standard output."""
    done = subprocess.run(
        command,
        cwd=EXAMPLES,
        env={**os.environ, "EXTRACOT_BASE_URL": live.url},
        capture_output=True,
        text=True,
        timeout=4 * WAIT,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def test_curl(live: LiveServer) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    out = run(live, "bash", "curl.sh")
    assert '"saved_tokens_estimate":' in out and out.rstrip().endswith("data: [DONE]")


def test_openai_python(live: LiveServer) -> None:
    pytest.importorskip("openai")
    out = run(live, sys.executable, "openai_python.py")
    assert "report: {'requested': 0.2" in out and "\nreasoning tokens: " in out


def test_openai_javascript(live: LiveServer) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    if not (EXAMPLES / "node_modules" / "openai").is_dir():
        pytest.skip("the openai package is not installed (npm ci in clients/examples)")
    out = run(live, "node", "openai_javascript.mjs")
    assert 'report: {"requested":0.2' in out and "\nreasoning tokens: " in out


def test_langchain_python(live: LiveServer) -> None:
    pytest.importorskip("langchain_openai")
    out = run(live, sys.executable, "langchain_python.py")
    few, many = (int(count) for count in re.findall(r"(\d+) reasoning tokens", out))
    assert 0 < few < many
    assert len(re.findall(r"\\boxed\{\d+\}", out)) == 3
    begun = re.findall(r"it began to reason: (\S.*) …", out)
    assert len(begun) == 2 and out.count(begun[0]) == 3  # the stream has it too
    assert re.search(r"saved \(None where it is not known\): \d", out)


def test_extracot_sync(live: LiveServer) -> None:
    out = run(live, sys.executable, "extracot_sync.py")
    assert "boxed: " in out and "first answer token after" in out
    assert out.count("What is 7 + 8?") == 2


def test_extracot_async(live: LiveServer) -> None:
    out = run(live, sys.executable, "extracot_async.py")
    assert "left at the first word" in out and "refused: 400 budget" in out
    assert len(out.splitlines()) == 5


def test_every_example_is_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    files = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sh"), *EXAMPLES.glob("*.mjs")]
    assert files and all(f"`{file.name}`" in listed for file in files)


README = EXAMPLES.parent / "README.md"


def block(language: str) -> str:
    """The one fenced block of a language in the clients' README."""
    text = README.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_python_of_the_clients_readme(live: LiveServer) -> None:
    out = run(live, sys.executable, "-c", block("python"))
    assert out.count("boxed{") == 1 and len(re.findall(r"^(0\.2|native) \d+ \d+$", out, re.M)) == 2


def test_the_commands_of_the_clients_readme(live: LiveServer, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "problems.jsonl").write_text(block("json"), encoding="utf-8")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "EXTRACOT_BASE_URL": live.url}
    seen = set()
    for line in block("bash").splitlines():
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=environment,
            input="What is 2 + 2?\n",
            capture_output=True,
            text=True,
            timeout=4 * WAIT,
            check=False,
        )
        assert done.returncode == 0 and done.stdout, (line, done.stderr)
        seen |= set(re.findall(r"extracot (\w+)", line))
    assert seen == {"ask", "compare", "models", "card", "chat", "sweep"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "problems.jsonl",
        "rows.jsonl",
        "rows.csv",
        "sweep.png",
    }


def test_the_errors_and_links_of_the_clients_readme() -> None:
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+Error)`", text))
    exported = {name for name in extracot_client.__all__ if name.endswith("Error")}
    assert named == exported - {"ExtracotAPIError", "ExtracotConnectionError"}
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all((README.parent / link.partition("#")[0]).exists() for link in links)
