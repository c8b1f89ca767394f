"""The encoder with its two-class token head, and the folder a trained compressor lives in.

``compressor.json`` says how the folder is to be used. Weights are either a whole model or a LoRA
adapter on a named encoder (a megabyte for MiniLM, so that one can ship). Scores are keep-logits:
logit(keep) - logit(drop).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from extracot_training.compression.encoding import Layout, Window
from extracot_training.config.compressor import AdapterSettings
from extracot_training.errors import ConfigError, TrainingError
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.records import first_problem
from extracot_training.policy.pretrained import (
    PretrainedError,
    first_line,
    load_encoder,
    load_tokenizer,
    located,
    pad_id,
)

CARD = "compressor.json"
SHIPPED = Path(__file__).with_name("shipped")
# One of these is what encoders of transformers call it.
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
Card = TypeVar("Card", bound=BaseModel)


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
        return read_card(cls, folder, CARD)


def read_card(kind: type[Card], folder: Path, name: str) -> Card:
    """The file ``name`` of a compressor's folder. Raises :class:`CompressorError` in one line."""
    try:
        return kind.model_validate_json((folder / name).read_bytes())
    except OSError as error:
        raise CompressorError(f"{folder}: no trained compressor ({name} missing)") from error
    except ValidationError as error:
        field, message = first_problem(error)
        raise CompressorError(f"{folder / name}: field {field!r}: {message}") from error


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


def check_length(length: int, model: Any) -> None:
    """Raises :class:`ConfigError` for inputs longer than the encoder has positions; RoBERTa-like
    ones lose two to padding."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return
    lost = 2 if model.config.model_type in ("roberta", "longformer", "xlm-roberta") else 0
    if length > (limit := int(positions) - lost):
        raise ConfigError(f"length {length}: the encoder has {limit} positions", key="length")


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

    path, extra = located(name)
    if layers is not None:
        extra["num_hidden_layers"] = layers
    if attention_dropout is not None:
        extra[_attention_dropout_of(name, path)] = attention_dropout
    labels = ("drop", "keep")
    return load_encoder(
        AutoModelForTokenClassification, name, path, num_labels=len(labels),
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
        **extra,
    )  # fmt: skip


def _attention_dropout_of(name: str, path: str) -> str:
    """What the encoder's own configuration calls it. Raises :class:`PretrainedError`."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise PretrainedError(f"encoder {name!r}: {first_line(error)}") from error
    for known in _ATTENTION_DROPOUT:
        if hasattr(config, known):
            return known
    raise PretrainedError(f"encoder {name!r} has no attention dropout to set: leave it out")
