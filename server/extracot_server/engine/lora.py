"""LoRA adapters as models of their own: checks of their folders before loading, and a view of an
engine that requests one of them.

vLLM would notice some of what is wrong too late: an adapter that it cannot load ends the engine
that is asked for it. Knows no vLLM.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from extracot.prompt import Tokenizer
from extracot_server.engine.base import (
    Engine,
    EngineInfo,
    EngineStartError,
    GenerationDelta,
    GenerationRequest,
)

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can be started for
_SLOTS = 8  # adapters in one batch; each slot takes memory of the engine's
_READS_HIDDEN = tuple(f".{name}_proj.lora_A.weight" for name in ("q", "k", "v", "gate", "up"))
_MERGE = "merge it into its model (stage `publish` of extracot-train does) and serve that"


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that can be loaded; ``number`` is what vLLM calls it, 1 or more."""

    name: str
    folder: Path
    number: int
    rank: int


def read_adapters(folders: Mapping[str, str], model: str | None = None) -> dict[str, Adapter]:
    """Judge the adapters' folders. Raises :class:`EngineStartError` naming the adapter.

    ``model`` is the folder of the model they are for. vLLM itself takes an adapter of a narrower
    model, and makes nonsense of it.
    """
    found = {}
    width = None if model is None else _width(Path(model))
    for number, (name, folder) in enumerate(folders.items(), 1):
        try:
            rank = _rank(Path(folder).expanduser(), width)
        except EngineStartError as error:
            raise EngineStartError(f"adapter {name}: {error}") from None
        found[name] = Adapter(name, Path(folder).expanduser().resolve(), number, rank)
    return found


def _width(model: Path) -> int | None:
    """What the model's projections read, where its folder says so."""
    try:
        width = json.loads((model / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return width if isinstance(width, int) else None


def _rank(folder: Path, width: int | None) -> int:
    path = folder / "adapter_config.json"
    if not folder.is_dir():
        raise EngineStartError(f"{folder} is not a folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineStartError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise EngineStartError(f"{path} is not JSON") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise EngineStartError(f"{path} is not of a LoRA adapter")
    for field, what in (
        ("modules_to_save", "trains whole modules"),
        ("trainable_token_indices", "trains rows of tokens"),
        ("use_dora", "is a DoRA"),
    ):
        if config.get(field):
            raise EngineStartError(f"it {what} ({field}), which vLLM does not serve: {_MERGE}")
    rank = config.get("r")
    patterns = config.get("rank_pattern") or {}
    ranks = [rank, *(patterns.values() if isinstance(patterns, dict) else [None])]
    if not all(isinstance(r, int) and 1 <= r <= _RANKS[-1] for r in ranks):
        raise EngineStartError(f"{path}: ranks must be from 1 to {_RANKS[-1]}, not {rank!r}")
    _check_weights(folder / "adapter_model.safetensors", width)
    return int(max(ranks))


def _check_weights(path: Path, width: int | None) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise EngineStartError(f"{path} is missing; other weights could run code while loaded")
    try:
        with safe_open(path, framework="numpy") as weights:
            names = list(weights.keys())
            whole = [name for name in names if "lora_" not in name]
            reading = [name for name in names if name.endswith(_READS_HIDDEN)]
            widths = {int(weights.get_slice(name).get_shape()[-1]) for name in reading}
    except (SafetensorError, OSError):
        raise EngineStartError(f"{path} is not a file of safetensors") from None
    if whole:
        raise EngineStartError(
            f"it holds whole weights ({whole[0]}), which vLLM does not serve: {_MERGE}"
        )
    if width is not None and widths - {width}:
        raise EngineStartError(
            f"it is for a model of width {min(widths - {width})}; this model has {width}"
        )


def adapter_arguments(adapters: Mapping[str, Adapter]) -> dict[str, Any]:
    """What vLLM is started with for these; nothing where there is none."""
    if not adapters:
        return {}
    highest = max(adapter.rank for adapter in adapters.values())
    return {
        "enable_lora": True,
        "max_lora_rank": next(rank for rank in _RANKS if rank >= highest),
        "max_loras": min(len(adapters), _SLOTS),
        "max_cpu_loras": len(adapters),
    }


class AdapterEngine:
    """One adapter of an engine, as an :class:`~extracot_server.engine.base.Engine` of its own.

    Starting and closing are the engine's own affair. ``source`` is the adapter's folder, where a
    budget card may lie.
    """

    def __init__(self, engine: Engine, name: str, folder: str) -> None:
        self._engine = engine
        self._name = name
        self.source = folder
        # As the engine does; the requests in flight are those of every model on it.
        self.check_format, self.check_health = engine.check_format, engine.check_health
        self.in_flight = engine.in_flight

    @property
    def info(self) -> EngineInfo:
        """The engine's, with the adapter's folder as its model."""
        return replace(self._engine.info, model=self.source)

    @property
    def tokenizer(self) -> Tokenizer:
        """The base model's: vLLM uses no other."""
        return self._engine.tokenizer

    async def start(self) -> None:
        """Nothing: the engine has been started."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Stream one continuation with the adapter; closing the generator aborts the request."""
        return self._engine.generate(replace(request, adapter=self._name))

    async def close(self, grace_seconds: float) -> None:
        """Nothing: the engine itself is closed by its owner."""
