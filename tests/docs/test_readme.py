"""The README's own lines, run as printed against the real command; only the address differs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PRINTED_URL = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """`extracot-serve` in a process of its own: the scripted engine under the README's name."""
    words = ["--engine", "scripted", "--served-model-name", "small", "--port", "0"]
    command = [sys.executable, "-m", "extracot_server.cli", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"ready after .* at (http://\S+)/v1 ", line):
                break
        else:
            pytest.fail("the server did not start: " + "".join(lines))
        yield found[1]
        process.terminate()
        process.stderr.read()
    assert process.returncode == 0


def run(command: list[str], text: str = "") -> str:
    """Standard output of a command that must succeed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_line_gives_a_budgeted_answer(address: str) -> None:
    (block,) = [b for b in blocks("bash") if "curl" in b]
    reply = json.loads(run(["bash", "-c", block.replace(PRINTED_URL, address)]))
    assert reply["choices"][0]["message"]["content"]
    assert reply["budget"]["requested"] == "auto"
    assert reply["budget"]["reasoning_tokens"] > 0


def test_the_openai_sdk_lines_stream_and_end_with_the_report(address: str) -> None:
    (block,) = [b for b in blocks("python") if "import OpenAI" in b]
    printed = run([sys.executable, "-"], block.replace(PRINTED_URL, address))
    assert "boxed" in printed
    assert "'requested': 'auto'" in printed


def test_the_client_lines_work(address: str) -> None:
    (block,) = [b for b in blocks("bash") if "extracot ask" in b]
    first, *commands = block.splitlines()
    for line in commands:
        command = line.split("#")[0].strip().replace(".venv/bin/", "")
        assert run(
            ["bash", "-c", f"export EXTRACOT_BASE_URL={address}; {first}; {command}"]
        ).strip()


def test_the_budget_the_readme_shows_has_the_fields_of_the_report(address: str) -> None:
    (block,) = [b for b in blocks("json") if '"budget"' in b]
    shown = set(re.findall(r'"(\w+)":', block)) - {"budget"}
    (line,) = [b for b in blocks("bash") if "curl" in b]
    reply = json.loads(run(["bash", "-c", line.replace(PRINTED_URL, address)]))
    assert shown <= set(reply["budget"])


def test_every_make_target_the_readme_names_exists() -> None:
    named = set(re.findall(r"`make ([a-z-]+)", README)) | set(
        re.findall(r"^make ([a-z-]+)", "\n".join(blocks("bash")), flags=re.M)
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert named
    assert named <= targets


def test_every_file_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
