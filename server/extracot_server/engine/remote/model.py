"""What this process needs of a remote model: tokenizer, end tokens, defaults.

Read from a folder or hub id with transformers, without weights. Knows nothing of HTTP.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extracot.prompt import Tokenizer
from extracot_server.engine.base import EngineStartError

# What vLLM takes from generation_config.json. `max_new_tokens` is not ours to default.
_SAMPLING = ("repetition_penalty", "temperature", "top_k", "top_p", "min_p")
_PROBE = "Total: 12 * 3 + 4 = 40 €, naïve café\n\n  <think> x </think>"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """The parts of a model's folder that are needed without its weights."""

    source: str
    """Folder or hub id it came from; a budget card may lie there."""
    tokenizer: Tokenizer
    eos_token_ids: frozenset[int]
    vocab_size: int
    defaults: dict[str, Any]
    """Sampling settings the model's authors recommend, in vLLM's names."""
    model_type: str | None = None
    architectures: tuple[str, ...] = ()

    @property
    def probe(self) -> str:
        """Text that two tokenizers rarely encode alike unless they are the same one."""
        return _PROBE + "".join(sorted(self.tokenizer.get_added_vocab())[:64])


def load_local_model(source: str) -> LocalModel:
    """Load the tokenizer and configuration (blocking). Raises :class:`EngineStartError`."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise EngineStartError(f"cannot load a tokenizer: {error}") from None
    folder = Path(source).expanduser()
    looks_local = folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
    if looks_local and not folder.is_dir():
        raise EngineStartError(
            f"the tokenizer folder {source} is not on this machine; "
            "give the model's folder or hub id with --tokenizer"
        )
    source = str(folder) if folder.is_dir() else source
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # whatever transformers and the model's own files raise
        _log.debug("no tokenizer in %s", source, exc_info=error)
        lines = str(error).strip().splitlines()
        cause = f"{lines[0]:.200}" if lines else type(error).__name__
        raise EngineStartError(
            f"cannot load the tokenizer of {source} ({cause}); "
            "give the model's folder or hub id with --tokenizer"
        ) from None
    generation = _generation_config(source)
    config = _config(source)
    ends = generation.get("eos_token_id")
    listed = [ends] if isinstance(ends, int) else list(ends or [])
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return LocalModel(
        source=source,
        tokenizer=tokenizer,
        eos_token_ids=frozenset([*listed, *own]),
        vocab_size=_vocab_size(source) or len(tokenizer),
        defaults={name: generation[name] for name in _SAMPLING if generation.get(name) is not None},
        model_type=config.get("model_type"),
        architectures=tuple(config.get("architectures") or ()),
    )


def _generation_config(source: str) -> dict[str, Any]:
    """What generation_config.json sets apart from the library's defaults, as vLLM reads it."""
    from transformers import GenerationConfig

    try:
        return dict(GenerationConfig.from_pretrained(source).to_diff_dict())
    except (OSError, ValueError):
        return {}


def _config(source: str) -> dict[str, Any]:
    """config.json as it is, also of models that this transformers does not know."""
    from transformers import PreTrainedConfig

    try:
        return dict(PreTrainedConfig.get_config_dict(source)[0])
    except (OSError, ValueError):
        return {}


def _vocab_size(source: str) -> int | None:
    """Rows of the embedding; ``None`` where only a tokenizer is there."""
    from transformers import AutoConfig

    try:
        size = AutoConfig.from_pretrained(source).get_text_config().vocab_size
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return int(size)
