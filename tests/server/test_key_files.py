"""Where keys come from: the file and what is wrong with it, the variable, the reload."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from extracot_server.admission.keys import KeysError
from extracot_server.config.settings import SettingsError, load_settings
from extracot_server.runtime.hang_ups import HangUps
from tests.server.key_files import OTHER, SECRET, bearer, read_keys, write
from tests.server.live import serve, wait_for
from tests.server.test_process import COMMAND, fails, started


def wrong(path: Path) -> str:
    """The one line a file ends in; it must not show a key."""
    with pytest.raises(KeysError) as caught:
        read_keys(path)
    line = str(caught.value)
    assert "\n" not in line and str(path) in line and "sk-" not in line
    return line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nmae": "x"}, "unknown field nmae; did you mean name?"),
        ({"sk-oops": 1}, "unknown field; allowed"),
        ({"name": "two words"}, "name: must be"),
        ({"name": None}, "name: must be"),
        ({"key": 1234567890}, "key: must be text"),
        ({"key": None}, "give key or sha256"),
        ({"key": ""}, "printable ASCII"),
        ({"key": "sk-é"}, "printable ASCII"),
        ({"key": "sk-a b"}, "printable ASCII"),
        ({"sha256": "ab"}, "sha256: must be 64"),
        ({"sha256": "0" * 64}, "give key or sha256, one of them"),
        ({"default": "fast"}, "default: must be a number in (0, 1]"),
        ({"default": 1.5}, "default: must be a number in (0, 1]"),
        ({"floor": 0}, "floor:"),
        ({"ceiling": "half"}, "ceiling:"),
        ({"floor": 0.8, "ceiling": 0.2}, "floor (0.8) is above ceiling (0.2)"),
        ({"floor": True}, "floor:"),
        ({"reasoning_tokens_ceiling": -1}, "reasoning_tokens_ceiling:"),
        ({"reasoning_tokens_ceiling": 1.5}, "reasoning_tokens_ceiling:"),
        ({"models": "scripted"}, "models:"),
        ({"models": []}, "models:"),
        ({"requests_per_minute": 0}, "requests_per_minute:"),
        ({"requests_per_minute": "10"}, "requests_per_minute:"),
        ({"concurrency": 0}, "concurrency:"),
        ({"priority": 1e6}, "priority:"),
    ],
)
def test_a_wrong_entry_is_one_line_that_names_it(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    good = {"name": "good", "key": OTHER}
    line = wrong(write(tmp_path / "k.yaml", good, {"name": "bad", "key": SECRET, **change}))
    assert "keys[1]" in line
    assert words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold `keys:`"),
        ("keys: []", "must hold `keys:`"),
        ("- name: a\n  key: sk-1\n", "must hold `keys:`"),
        ("sk-1: {name: a}", "must hold `keys:`"),
        ("keys:\n  - name: a\n    key: sk-1\nmore: 1", "must hold `keys:`"),
        ("keys: [sk-1]", "an entry must be"),
        ("keys:\n  - name: a\n    key: 'sk-1\n", "not YAML (line"),
        ("keys: {sk-1: [", "not YAML"),
        ("keys: 2026-13-45", "not YAML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(text)
    assert words in wrong(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in wrong(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not text" in wrong(tmp_path / "b.yaml")


def test_names_and_keys_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    one = {"name": "a", "key": SECRET}
    assert "name a is taken" in wrong(write(path, one, {"name": "a", "key": OTHER}))
    assert "b has the key" in wrong(write(path, one, {"name": "b", "key": SECRET}))
    assert "api_key is taken" in wrong(write(path, {"name": "api_key", "key": SECRET}))


def test_the_single_key_comes_from_a_variable_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--engine", "scripted"]
    assert load_settings(flags).single_key() is None
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    assert load_settings([*flags, "--api-key-file", str(path)]).single_key() == SECRET
    monkeypatch.setenv("EXTRACOT_API_KEY", OTHER)
    assert load_settings(flags).single_key() == OTHER
    for arguments, words in (
        (["--api-key-file", str(path)], "not both"),
        (["--playground", "true"], "playground"),
        (["--api-key", SECRET], "EXTRACOT_API_KEY"),
        ([f"--api-key={SECRET}"], "--api-key-file"),
    ):
        with pytest.raises(SettingsError, match=words) as caught:
            load_settings([*flags, *arguments])
        assert "sk-" not in str(caught.value)
    monkeypatch.setenv("EXTRACOT_API_KEY", "")  # as compose files spell "not set"
    assert load_settings(flags).single_key() is None
    path.write_text(" \n")
    with pytest.raises(SettingsError, match="is empty"):
        load_settings([*flags, "--api-key-file", str(path)])
    monkeypatch.setenv("EXTRACOT_API_KEY", "sk two")
    with pytest.raises(SettingsError, match="printable") as caught:
        load_settings(flags)
    assert "two" not in str(caught.value)


def test_a_bad_file_ends_the_start_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET, "cieling": 0.5})
    line = fails(2, "--engine", "scripted", "--port", "0", "--keys", str(path))
    assert "unknown field cieling; did you mean ceiling?" in line


def test_sighup_reads_the_keys_again_and_keeps_them_if_the_file_is_bad(tmp_path: Path) -> None:
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET})
    with started("--keys", str(path)) as (process, url, said):
        assert "1 API key may use /v1" in str(said)
        assert process.stderr is not None

        def status(key: str) -> int:
            return httpx.get(f"{url}/v1/models", headers=bearer(key)).status_code

        def hang_up() -> str:
            assert process.stderr is not None
            process.send_signal(signal.SIGHUP)
            while "extracot.access" in (line := process.stderr.readline().decode()):
                pass  # log lines of earlier requests
            return line

        assert (status(SECRET), status(OTHER)) == (200, 401)
        write(path, {"name": "a", "key": OTHER}, {"name": "b", "key": "sk-c"})
        assert "2 API keys may use /v1" in hang_up()
        assert (status(SECRET), status(OTHER)) == (401, 200)
        path.write_text("keys: [")
        line = hang_up()
        assert "not YAML" in line and "the current keys stay in force" in line
        assert (status(SECRET), status(OTHER)) == (401, 200)
        path.unlink()
        assert "No such file" in hang_up()
        assert status(OTHER) == 200
        process.terminate()
        assert process.wait(60) == 0


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever fails, nothing of it stays."""
    try:
        yield
    finally:
        process.kill()


SLOW_START = """
import asyncio, pathlib, sys
from extracot_server.engine.scripted.engine import ScriptedEngine
start, go = ScriptedEngine.start, pathlib.Path(sys.argv.pop(1))

async def slow(self):
    print("engine starts", file=sys.stderr, flush=True)
    while not go.exists():
        await asyncio.sleep(0.01)
    await start(self)

ScriptedEngine.start = slow
from extracot_server.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_key_revoked_while_a_server_loads_is_not_let_in(tmp_path: Path, workers: int) -> None:
    path, go = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET}), tmp_path / "go"
    command = [sys.executable, "-c", SLOW_START, str(go), "--engine", "scripted", "--port", "0"]
    command += ["--keys", str(path), "--workers", str(workers)]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
        ended(process),
    ):
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        for line in said:
            if "engine starts" in line:
                break
        write(path, {"name": "a", "key": OTHER})
        process.send_signal(signal.SIGHUP)
        go.touch()
        told = ""
        while "try: curl" not in told:
            told += next(said)
        url = re.search(r"http://[\d.:]+", told)
        assert url is not None

        def status(key: str) -> int:
            return httpx.get(f"{url[0]}/v1/models", headers=bearer(key)).status_code

        for _ in range(4 * workers):
            wait_for(lambda: status(SECRET) == 401 and status(OTHER) == 200)
        process.terminate()
        process.stderr.read()
        assert process.wait(60) == 0


def test_sighup_is_remembered_where_no_loop_handles_it() -> None:
    hang_ups = HangUps()
    with hang_ups.noted():
        assert not hang_ups.came
        os.kill(os.getpid(), signal.SIGHUP)
    assert hang_ups.came


def test_sighup_without_a_file_changes_nothing() -> None:
    with started() as (process, url, said):
        assert "no API key is required" in str(said)
        assert process.stderr is not None
        process.send_signal(signal.SIGHUP)
        assert b"no keys file" in process.stderr.readline()
        assert httpx.get(f"{url}/v1/models").status_code == 200


def test_a_default_that_a_model_does_not_have_ends_the_start(tmp_path: Path) -> None:
    auto = {"name": "a", "key": SECRET, "default": "auto"}
    path = write(tmp_path / "k.yaml", {"name": "b", "key": OTHER}, auto)
    line = fails(2, "--engine", "scripted", "--port", "0", "--card", "none", "--keys", str(path))
    assert "key a: default is auto, but scripted has no policy token" in line
    write(path, {**auto, "models": ["elsewhere"]})  # a model of that name could have one
    with serve(keys=path, card="none") as live:
        write(path, auto)
        assert live.metric_sum("extracot_keys_last_reload_successful") == 1
        with pytest.raises(KeysError, match="key a: default is auto"):
            live.app.state.extracot.reload_keys()
        (kept,) = live.app.state.extracot.keys.principals
        assert kept.models == {"elsewhere"}
        assert live.metric_sum("extracot_keys_last_reload_successful") == 0
        write(path, {**auto, "models": ["elsewhere"]})
        live.app.state.extracot.reload_keys()
        assert live.metric_sum("extracot_keys_last_reload_successful") == 1


def test_a_new_secret_is_told_and_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "k.yaml", {"name": "a", "key": SECRET}, {"name": "b", "key": OTHER})
    with serve(keys=path) as live:
        state = live.app.state.extracot
        write(path, {"name": "a", "key": "sk-another"}, {"name": "b", "key": OTHER})
        assert state.reload_keys() == "new secret of a"
        assert state.reload_keys() == "nothing of what they may do has changed"
        write(path, {"name": "a", "key": OTHER}, {"name": "c", "key": SECRET})
        assert state.reload_keys() == "added c; removed b; new secret of a"


def test_keys_in_the_wrong_place_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"keys": [{"name": "a", "key": SECRET}]}))
    with pytest.raises(SettingsError) as caught:
        load_settings(["--config", str(path)])
    assert str(caught.value).startswith("setting keys: must be the path of a YAML file")
    assert SECRET not in str(caught.value)


def test_a_terminal_that_is_closed_ends_the_server() -> None:
    """SIGHUP means that, too: a server that nobody can see any more must not live on."""
    ours, theirs = os.openpty()
    command = [*COMMAND, "--engine", "scripted", "--port", "0"]
    process = subprocess.Popen(command, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    said = b""
    while b"try: curl" not in said:
        said += os.read(ours, 4096)
    process.send_signal(signal.SIGHUP)
    while b"no keys file" not in said:
        said += os.read(ours, 4096)
    assert process.poll() is None
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0


def test_the_file_in_the_guide_is_a_keys_file(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs/keys.md").read_text()
    path = tmp_path / "keys.yaml"
    path.write_text(guide.split("```yaml\n")[1].split("```")[0].replace("sk-…", SECRET))
    first, second = (principal for _, principal in read_keys(path))
    assert (first.name, first.default, first.concurrency) == ("chat-app", 0.4, 32)
    assert (second.models, second.priority) == (frozenset({"small"}), 10)
