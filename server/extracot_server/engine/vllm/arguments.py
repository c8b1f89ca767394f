"""The arguments vLLM is started with: ours, then the operator's. Plain values, no vLLM import."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from extracot.processor import computes_bfloat16
from extracot_server.engine.base import EngineStartError
from extracot_server.engine.vllm.precision import precision_on_cpu

_KV_CACHE_ON_CPU = 2**30  # bytes
_KV_BLOCK_ON_CPU = 32  # vLLM's own 128 gives short prompts no prefix-cache hit; 16 crashes
_GUIDANCE = "guidance"  # takes more schemas, and keeps to them: docs/experiments.md
_MOST_LEVELS = 50  # `auto` asks for the log-probability of every level of a card


def engine_arguments(
    model: str,
    given: Mapping[str, Any],
    *,
    known: Collection[str],
    cpu: bool,
    shutdown_grace: float,
    grammar_backend: str = "auto",
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fields of vLLM's AsyncEngineArgs. Text in ``given`` is read as YAML; ``known`` are its names.

    ``grammar_backend`` is vLLM's for structured outputs, or ``auto``. ``defaults`` are more of our
    own, which ``given`` may replace. Raises
    :class:`EngineStartError` in one line for a name vLLM does not have.
    """
    own = {name.replace("-", "_"): _typed(value) for name, value in given.items()}
    for name in own:
        if name == "model":
            raise EngineStartError("model is not a vLLM argument here: it is a setting of its own")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise EngineStartError(f"unknown vLLM argument {name}{hint}")
    values: dict[str, Any] = {
        "model": model,
        "max_model_len": -1,  # the model's own, or what fits the memory
        "shutdown_timeout": math.ceil(shutdown_grace),
        "use_tqdm_on_load": False,
        "max_logprobs": _MOST_LEVELS,
        "load_format": "safetensors",  # vLLM's own default falls back to pickles
    }
    if _in_mistrals_format(Path(model)):
        values["load_format"] = "auto"
    if cpu:
        dtype = precision_on_cpu(Path(model), bfloat16=computes_bfloat16())
        values |= {"dtype": dtype, "enforce_eager": True, "block_size": _KV_BLOCK_ON_CPU}
        # For a prompt in chunks vLLM 0.32 sets a random generator back, which a CPU's can't be:
        # one seeded request too many at a time, and the engine dies.
        values["enable_chunked_prefill"] = False
        # As an argument: the variable VLLM_CPU_KVCACHE_SPACE would beat an operator's own.
        if "gpu_memory_utilization" not in own:
            values["kv_cache_memory_bytes"] = _KV_CACHE_ON_CPU
    asked = own.pop("structured_outputs_config", None)
    grammar: dict[str, Any] = {
        "backend": _GUIDANCE if grammar_backend == "auto" else grammar_backend
    }
    grammar |= asked if isinstance(asked, dict) else {}
    if grammar["backend"] in (_GUIDANCE, "xgrammar"):  # vLLM does not start the others with it
        # Without this a small model may write white space until it runs out of tokens.
        grammar = {"disable_any_whitespace": True, **grammar}
    values["structured_outputs_config"] = grammar
    return values | dict(defaults or {}) | own


def check_folder(model: Path, given: Collection[str] = ()) -> None:
    """Refuse a folder without a model before the half minute that an import takes.

    Weights that are no safetensors are pickles, which can run code: only an operator who names a
    ``load_format`` (it is among ``given`` then) gets them loaded.
    """
    if model.is_absolute() and not model.is_dir():
        raise EngineStartError(f"model folder {model} does not exist")
    configured = any((model / name).is_file() for name in ("config.json", "params.json"))
    if model.is_dir() and not configured:
        raise EngineStartError(f"model folder {model} holds no config.json")
    chosen = {name.replace("-", "_") for name in given}
    if model.is_dir() and "load_format" not in chosen and not any(model.glob("*.safetensors")):
        raise EngineStartError(
            f"model folder {model} holds no *.safetensors; other weights could run code while "
            "they are loaded: convert them, or name their format (--vllm load_format=…)"
        )


def _in_mistrals_format(model: Path) -> bool:
    """Their own layout of safetensors, which vLLM only finds by itself."""
    return model.is_dir() and any(model.glob("consolidated*.safetensors"))


def _typed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value
