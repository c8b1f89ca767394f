"""The folder of a compressor that chooses steps, and its models: a frozen encoder under a small
network over the whole trace (:mod:`extracot_training.compression.step_network`).

``steps.json`` says how the folder is to be used; ``steps.safetensors`` holds the networks, whose
probabilities are averaged. The encoder itself is named, not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from extracot_training.compression.encoding import Layout
from extracot_training.compression.model import CompressorError, read_card
from extracot_training.compression.step_features import NAMES
from extracot_training.compression.step_network import NetworkShape, StepNetwork
from extracot_training.pipeline.files import write_atomic
from extracot_training.policy import pretrained
from extracot_training.policy.pretrained import load_tokenizer, located

CARD = "steps.json"
WEIGHTS = "steps.safetensors"
SHIPPED_STEPS = Path(__file__).with_name("shipped_steps")


class StepsCard(BaseModel, extra="forbid", frozen=True):
    """``steps.json``. ``encoder`` is used up to its first ``layers`` (``None``: all);
    ``features`` are the structural features in order; the networks have ``width``,
    ``network_layers`` and ``heads``; ``caution`` is how hard a step that may be revoked is
    avoided."""

    version: Literal[1] = 1
    strategy: Literal["steps"] = "steps"
    encoder: str
    layers: int | None = Field(ge=1)
    length: int
    question: int
    overlap: float
    asking: bool
    text: int
    width: int
    network_layers: int
    heads: int
    members: int = Field(ge=1)
    caution: float = Field(gt=0)
    features: tuple[str, ...]
    trained_on: str = ""

    @property
    def layout(self) -> Layout:
        return Layout(self.length, self.question, self.overlap, self.asking)

    def shape(self, dropout: float = 0.0) -> NetworkShape:
        """Of one network."""
        return NetworkShape(
            self.text, len(self.features), self.width, self.network_layers, self.heads, dropout
        )

    @classmethod
    def load(cls, folder: Path) -> StepsCard:
        """Raises :class:`CompressorError` in one line."""
        card = read_card(cls, folder, CARD)
        if card.features != NAMES:
            raise CompressorError(f"{folder}: made for other features of steps; train it anew")
        return card


def load_encoder(name: str, layers: int | None, *, device: str = "cpu") -> tuple[Any, Any]:
    """(frozen encoder, tokenizer). Raises :class:`~pretrained.PretrainedError`."""
    from transformers import AutoModel

    path, extra = located(name)
    if layers is not None:
        extra["num_hidden_layers"] = layers
    model = pretrained.load_encoder(AutoModel, name, path, **extra)
    return model.to(device).eval().requires_grad_(False), load_tokenizer(name)


def save_steps(networks: Sequence[StepNetwork], card: StepsCard, folder: Path) -> None:
    """Weights, then the card: a folder with a card is complete."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{number}.{name}": tensor.detach().cpu().contiguous()
        for number, network in enumerate(networks)
        for name, tensor in network.state_dict().items()
    }
    write_atomic(folder / WEIGHTS, save(tensors))
    write_atomic(folder / CARD, card.model_dump_json(indent=2) + "\n")


def load_steps(folder: Path, *, device: str = "cpu") -> tuple[list[StepNetwork], StepsCard]:
    """Networks in evaluation mode. Raises :class:`CompressorError`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = StepsCard.load(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CompressorError(f"{folder / WEIGHTS}: {str(error).splitlines()[0]}") from error
    networks = []
    for number in range(card.members):
        network = StepNetwork(card.shape())
        own = {
            name.partition(".")[2]: tensor
            for name, tensor in tensors.items()
            if name.partition(".")[0] == str(number)
        }
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise CompressorError(
                f"{folder / WEIGHTS}: no network {number} of this card"
            ) from error
        networks.append(network.to(device).eval().requires_grad_(False))
    return networks, card
