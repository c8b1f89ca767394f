"""The command as a process: on a terminal, in a pipe, interrupted; and what a terminal is given."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_client.terminal import Progress, Style, clip, printable, table, width_of
from tests.clients import fake_server as fake
from tests.clients.conftest import LiveServer
from tests.clients.fake_server import GOOD, WAIT, FakeServer

COMMAND = [sys.executable, "-m", "extracot_client.cli"]


class Terminal(io.StringIO):
    """A terminal without a person."""

    def isatty(self) -> bool:
        return True


def on_terminal(*argv: str, **variables: str) -> tuple[int, str]:
    """Run on a pseudo-terminal; gives exit code and everything shown."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    with subprocess.Popen(
        [*COMMAND, *argv], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # Linux says EIO when the other side is closed
            pass
        code = process.wait(WAIT)
    os.close(ours)
    return code, shown.decode().replace("\r\n", "\n")


def test_reasoning_is_dimmed_and_the_answer_bright() -> None:
    with FakeServer([fake.stream(*GOOD)]) as server:
        code, shown = on_terminal("ask", "x", "--base-url", server.url)
    assert code == 0
    reasoning, answer = "\x1b[2mtwo \x1b[0m\x1b[2mand two\x1b[0m", "\x1b[1mIt is \\boxed{4}.\x1b[0m"
    assert shown.startswith(f"{reasoning}\n\n{answer}\n\x1b[2mbudget 0.2")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_they_are_not_wanted(variables: dict[str, str]) -> None:
    with FakeServer([fake.stream(*GOOD)]) as server:
        code, shown = on_terminal("ask", "x", "--base-url", server.url, **variables)
    assert code == 0 and "\x1b" not in shown
    assert shown.startswith("two and two\n\nIt is \\boxed{4}.\nbudget 0.2")


def test_a_reply_cannot_drive_the_terminal() -> None:
    evil = fake.chunk(content="\x1b]0;owned\x07\x1b[2Jhello\x9b31m\r")
    with FakeServer([fake.stream(evil, *GOOD[4:])]) as server:
        code, shown = on_terminal("ask", "x", "--base-url", server.url, NO_COLOR="1")
    assert code == 0 and shown.startswith("�]0;owned��[2Jhello�31m�")


def test_ctrl_c_in_a_stream(slow: LiveServer) -> None:
    argv = ["ask", "What is 2 + 2?", "--reasoning", "show", "--base-url", slow.url]
    with subprocess.Popen(
        [*COMMAND, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None and process.stdout.read(1)
        slow.wait_until(lambda: slow.in_flight() == 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130 and err == b"" and out.endswith(b"\n")
    slow.wait_until(lambda: slow.in_flight() == 0)


def test_ctrl_c_in_a_sweep_leaves_whole_rows(slow: LiveServer, tmp_path: Path) -> None:
    problems, kept = tmp_path / "in.jsonl", tmp_path / "rows.jsonl"
    problems.write_text('"What is 2 + 2?"\n"What is 3 + 3?"\n')
    argv = ["sweep", str(problems), "--budgets", "none,native", "-o", str(kept)]
    with subprocess.Popen(
        [*COMMAND, *argv, "--base-url", slow.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        slow.wait_until(lambda: kept.exists() and kept.read_bytes().count(b"\n") == 2)
        slow.wait_until(lambda: slow.in_flight() == 2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130 and b"Traceback" not in err
    slow.wait_until(lambda: slow.in_flight() == 0)
    assert kept.read_bytes().endswith(b"\n")
    assert b"2 of 4 rows are in" in err and b"the same command goes on from there" in err


def test_a_sweep_killed_outright_goes_on_where_it_was(
    slow: LiveServer, live: LiveServer, tmp_path: Path
) -> None:
    problems, kept = tmp_path / "in.jsonl", tmp_path / "rows.jsonl"
    problems.write_text('"What is 2 + 2?"\n"What is 3 + 3?"\n')
    argv = [*COMMAND, "sweep", str(problems), "--budgets", "none,native", "-o", str(kept)]
    with subprocess.Popen(
        [*argv, "--base-url", slow.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        slow.wait_until(lambda: kept.exists() and kept.read_bytes().count(b"\n") == 2)
        process.kill()
        process.communicate()
    slow.wait_until(lambda: slow.in_flight() == 0)
    with kept.open("ab") as file:
        file.write(b'{"problem_id": "half a')  # as a kill in the middle of a row leaves it
    live.engine.requests.clear()
    moved = kept.read_text().replace(slow.url, live.url)  # as the refusal says
    kept.write_text(moved)
    again = subprocess.run(
        [*argv, "--base-url", live.url, "--csv", str(tmp_path / "t.csv")],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    assert "2 of 4 rows are in" in again.stderr and "4/4" in again.stderr
    assert len(live.engine.requests) == 2
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [row["budget"] for row in rows] == ["none", "none", "native", "native"]
    assert len((tmp_path / "t.csv").read_text().splitlines()) >= 5


def test_ctrl_c_in_a_chat_stops_the_reply_only(slow: LiveServer) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "chat", "--base-url", slow.url], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""

        def until(text: bytes) -> None:
            nonlocal shown
            while text not in shown:
                shown += os.read(ours, 65536)
            shown = shown.partition(text)[2]

        until(b"> ")
        os.write(ours, b"What is 2 + 2?\n")
        slow.wait_until(lambda: slow.in_flight() == 1)
        process.send_signal(signal.SIGINT)
        until(b"stopped")
        slow.wait_until(lambda: slow.in_flight() == 0)
        until(b"> ")
        os.write(ours, b"/quit\n")
        assert process.wait(WAIT) == 0
    os.close(ours)


def test_a_chat_outlives_a_lost_connection() -> None:
    good, broken = fake.stream(*GOOD), fake.stream(*GOOD[:1], end="reset")
    with FakeServer([good, broken, good]) as server:
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, "chat", "--base-url", server.url],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            shown = b""
            for line, awaited in ((b"one", b"budget"), (b"two", b"> "), (b"three", b"budget")):
                os.write(ours, line + b"\n")
                while awaited not in shown.partition(line)[2]:
                    shown += os.read(ours, 65536)
                shown = b""
            os.write(ours, b"/quit\n")
            assert process.wait(WAIT) == 0
        os.close(ours)
    asked = json.loads(server.seen[2].body)["messages"]
    assert [message["content"] for message in asked] == ["one", "It is \\boxed{4}.", "three"]


def test_ctrl_c_while_waiting_for_a_silent_server() -> None:
    with FakeServer([fake.hang]) as server:
        argv = ["compare", "x", "--budgets", "0.2", "--model", "m", "--base-url", server.url]
        with subprocess.Popen(
            [*COMMAND, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            while not server.seen:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=WAIT)
        assert (process.returncode, out, err) == (130, b"", b"")
        assert server.gone.wait(WAIT)


def test_a_reader_that_leaves_is_no_error() -> None:
    long = [fake.chunk(content="word " * 2000)] * 40
    with (
        FakeServer([fake.stream(*long, *GOOD[4:])]) as server,
        subprocess.Popen(
            [*COMMAND, "ask", "x", "--base-url", server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(WAIT) == 141
        assert process.stderr.read() == b""


def test_a_terminal_of_another_encoding() -> None:
    wide = fake.chunk(content="√2 ≈ 1.4")
    with FakeServer([fake.stream(wide, *GOOD[4:])]) as server:
        done = subprocess.run(
            [*COMMAND, "ask", "x", "--base-url", server.url],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            timeout=WAIT,
            check=True,
        )
    assert done.stdout == b"?2 ? 1.4\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from extracot_client.cli import build_parser; build_parser().format_help();"
        "heavy = {'httpx', 'pydantic', 'asyncio', 'matplotlib', 'extracot'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT)


def test_every_subcommand_has_help() -> None:
    for command in ("ask", "compare", "sweep", "models", "card", "chat"):
        done = subprocess.run(
            [*COMMAND, command, "--help"], capture_output=True, check=True, timeout=WAIT
        )
        assert done.stdout.startswith(b"usage: extracot " + command.encode())


def test_progress() -> None:
    live, piped = Terminal(), io.StringIO()
    for stream in (live, piped):
        progress = Progress(stream, 40, done=38)
        progress.step("0.2")
        progress.step("0.2 \x1b[31m")
        progress.close()
    assert live.getvalue().endswith("[########################] 40/40  0.2 �[31m\r\x1b[K")
    assert piped.getvalue() == "40/40  0.2 �[31m\n"


@given(st.text())
def test_text_made_safe_is_text_a_terminal_shows(text: str) -> None:
    safe = printable(text)
    assert len(safe) == len(text) and not any(
        ord(char) < 32 and char not in "\t\n" for char in safe
    )
    assert printable(safe) == safe


@given(st.text(), st.integers(1, 40))
def test_clipped_text_fits(text: str, width: int) -> None:
    clipped = clip(text, width)
    assert width_of(clipped) <= width and "\n" not in clipped


def test_tables_line_up() -> None:
    text = table(("name", "n", "what"), [("漢字", "7", "x\ny"), ("b", "12", "z")], Style(False))
    assert text.splitlines() == ["name   n  what", "漢字   7  x y", "b     12  z"]
