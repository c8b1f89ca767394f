"""The encoder with its two-class token head, and the folder a trained compressor lives in.

``compressor.json`` says how the folder is to be used. Weights are either a whole model or a LoRA
adapter on a named encoder (a megabyte for MiniLM, so that one can ship). Scores are keep-logits:
logit(keep) - logit(drop).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from extracot_training.compression.encoding import Layout, Window
from extracot_training.config.compressor import AdapterSettings
from extracot_training.errors import TrainingError
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.records import first_problem
from extracot_training.policy.pretrained import PretrainedError, load_tokenizer, located, pad_id

CARD = "compressor.json"
SHIPPED = Path(__file__).with_name("shipped")
# One of these is what encoders of transformers call it.
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


class CompressorError(TrainingError):
    """A folder is no usable compressor."""


class CompressorCard(BaseModel, extra="forbid", frozen=True):
    """``compressor.json``."""

    version: Literal[1] = 1
    encoder: str
    weights: Literal["whole", "adapter"]
    length: int
    question: int
    overlap: float
    asking: bool = False
    trained_on: str = ""
    layers: int | None = None

    @property
    def layout(self) -> Layout:
        return Layout(self.length, self.question, self.overlap, self.asking)

    def save(self, folder: Path) -> None:
        write_atomic(folder / CARD, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> CompressorCard:
        """Raises :class:`CompressorError` in one line."""
        try:
            return cls.model_validate_json((folder / CARD).read_bytes())
        except OSError as error:
            raise CompressorError(f"{folder}: no trained compressor ({CARD} missing)") from error
        except ValidationError as error:
            field, message = first_problem(error)
            raise CompressorError(f"{folder / CARD}: field {field!r}: {message}") from error


def new_model(
    encoder: str,
    adapter: AdapterSettings | None,
    *,
    layers: int | None = None,
    attention_dropout: float | None = None,
) -> Any:
    """A fresh classifier over a pretrained encoder, or over its first ``layers`` alone; with
    ``adapter``, LoRA on its linear layers. ``attention_dropout`` replaces the encoder's own.

    Raises :class:`PretrainedError`.
    """
    model = _classifier(encoder, layers, attention_dropout)
    if adapter is None:
        return model
    from peft import LoraConfig, TaskType, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(
            task_type=TaskType.TOKEN_CLS,
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules="all-linear",
            modules_to_save=["classifier"],
        ),
    )


def save_compressor(model: Any, tokenizer: Any, card: CompressorCard, folder: Path) -> None:
    """Weights, then the card: a folder with a card is complete. An adapter brings no tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    if card.weights == "adapter":
        # PEFT notes where the encoder lay on this machine, and adds a form to fill in.
        for settings in model.peft_config.values():
            settings.base_model_name_or_path = card.encoder
        model.save_pretrained(folder, save_embedding_layers=False)  # never trained here
        (folder / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    card.save(folder)


def load_compressor(folder: Path, *, device: str = "cpu") -> tuple[Any, Any, CompressorCard]:
    """(model in evaluation mode, tokenizer, card). Adapters are merged into their encoder.

    Raises :class:`CompressorError`, :class:`PretrainedError`.
    """
    card = CompressorCard.load(folder)
    if card.weights == "whole":
        model = _classifier(str(folder))
        tokenizer = load_tokenizer(str(folder))
    else:
        from peft import PeftModel

        model = PeftModel.from_pretrained(
            _classifier(card.encoder, card.layers), str(folder)
        ).merge_and_unload()
        tokenizer = load_tokenizer(card.encoder)
    return model.to(device).eval().requires_grad_(False), tokenizer, card


def longest_input(model: Any) -> int | None:
    """Positions the encoder has, if limited; RoBERTa-like ones lose two to padding."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return None
    lost = 2 if model.config.model_type in ("roberta", "longformer", "xlm-roberta") else 0
    return int(positions) - lost


def batch_of(
    windows: Sequence[Window], model: Any, tokenizer: Any, *, device: str = "cpu"
) -> dict[str, Tensor]:
    """Padded model inputs; token types and global attention only where the model takes them."""
    rows = [(window.ids, window.kinds, window.offset) for window in windows]
    ids, kinds, offsets = zip(*rows, strict=True)
    return pad_batch(ids, kinds, offsets, model, pad_id(tokenizer), device=device)


def pad_batch(
    ids: Sequence[Sequence[int]],
    kinds: Sequence[Sequence[int]],
    offsets: Sequence[int],
    model: Any,
    pad: int,
    *,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """As :func:`batch_of`, from plain lists. Everything before a row's offset is the question and
    attends globally."""
    # The model's own ``forward`` tells what it takes, under a PEFT wrapper, too.
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    taken = inspect.signature(base.forward).parameters
    rows = {"input_ids": ids, "attention_mask": [[1] * len(tokens) for tokens in ids]}
    if "token_type_ids" in taken and getattr(model.config, "type_vocab_size", 0) > 1:
        rows["token_type_ids"] = kinds
    if "global_attention_mask" in taken:
        rows["global_attention_mask"] = [[1] * offset for offset in offsets]
    width = max(map(len, ids))
    fills = {"input_ids": pad}
    return {
        name: torch.tensor(
            [[*row, *[fills.get(name, 0)] * (width - len(row))] for row in listed], device=device
        )
        for name, listed in rows.items()
    }


def _classifier(
    name: str, layers: int | None = None, attention_dropout: float | None = None
) -> Any:
    from transformers import AutoModelForTokenClassification
    from transformers.utils import logging

    path, extra = located(name)
    if layers is not None:
        extra["num_hidden_layers"] = layers
    # A new head is what we want here; transformers would print a warning with a table.
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        if attention_dropout is not None:
            extra[_attention_dropout_of(name, path)] = attention_dropout
        return AutoModelForTokenClassification.from_pretrained(
            path,
            num_labels=2,
            id2label={0: "drop", 1: "keep"},
            label2id={"drop": 0, "keep": 1},
            dtype=torch.float32,
            **extra,
        )
    except (OSError, ValueError) as error:
        raise PretrainedError(f"encoder {name!r}: {str(error).splitlines()[0]}") from error
    finally:
        logging.set_verbosity(level)


def _attention_dropout_of(name: str, path: str) -> str:
    """What the encoder's own configuration calls it. Raises :class:`PretrainedError`."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path)
    for known in _ATTENTION_DROPOUT:
        if hasattr(config, known):
            return known
    raise PretrainedError(f"encoder {name!r} has no attention dropout to set: leave it out")
