"""How needed and how revoked each step of a trace is, and what its atoms weigh.

The encoder sees the question's asking part and a window of the trace, so a step with its
neighbours; the network sees all steps and their references. :class:`GraphScorer` does without
either. Ratios play no part here: one pass serves them all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extracot_training.compression.encoding import Encoded, WindowEncoder
from extracot_training.compression.model import batch_of
from extracot_training.compression.scoring import TokenScores, atom_scores
from extracot_training.compression.segment import segment
from extracot_training.compression.step_features import (
    Structure,
    features,
    graph_scores,
    structure,
)
from extracot_training.compression.step_model import (
    SHIPPED_STEPS,
    StepsCard,
    load_encoder,
    load_steps,
)
from extracot_training.compression.step_network import StepNetwork
from extracot_training.compression.structure import outline

# Question, trace, and the answer if it is known.
Item = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class ScoredSteps:
    """One trace: ``needed`` and ``revoked`` are probabilities by step, ``weights`` say how much an
    atom matters within its step; ``caution`` is how hard a step that may be revoked is avoided."""

    structure: Structure
    needed: tuple[float, ...]
    revoked: tuple[float, ...]
    weights: tuple[float, ...]
    caution: float = 1.0


@dataclass(frozen=True, slots=True)
class EncodedSteps:
    """One trace as the networks take it: step vectors (steps, text), token vectors (tokens, text),
    the step of each token, the features (steps, features) and references (steps, steps)."""

    structure: Structure
    spans: tuple[tuple[int, int], ...]
    text: Tensor
    tokens: Tensor
    owners: Tensor
    features: Tensor
    refers: Tensor


class StepEncoder:
    """Reads traces for the networks. ``batch`` is windows per forward pass."""

    def __init__(self, encoder: Any, tokenizer: Any, card: StepsCard, *, batch: int = 8) -> None:
        self._encoder = encoder
        self.tokenizer = tokenizer
        self._windows = WindowEncoder(tokenizer, card.layout)
        self._batch = batch

    def encode(self, items: Sequence[Item]) -> list[EncodedSteps]:
        """All traces; windows of all share batches."""
        encoded = [self._windows.encode(question, text) for question, text, _ in items]
        states = iter(self._states([window for one in encoded for window in one.windows]))
        return [
            self._one(item, one, list(islice(states, len(one.windows))))
            for item, one in zip(items, encoded, strict=True)
        ]

    def _one(self, item: Item, encoded: Encoded, states: Sequence[Tensor]) -> EncodedSteps:
        question, text, answer = item
        read = structure(question, outline(text, segment(text)), answer)
        count, width = len(encoded.spans), int(self._encoder.config.hidden_size)
        tokens, seen = torch.zeros(count, width), torch.zeros(count, 1)
        for window, state in zip(encoded.windows, states, strict=True):
            where = slice(window.first, window.first + window.count)
            tokens[where] += state
            seen[where] += 1
        tokens = tokens / seen.clamp(min=1)
        starts = [begin for begin, _ in read.plan.spans]
        owners = torch.tensor(
            [max(0, bisect_right(starts, max(a, b - 1)) - 1) for a, b in encoded.spans],
            dtype=torch.long,
        )
        steps = len(starts)
        sums = torch.zeros(steps, width).index_add_(0, owners, tokens)
        sizes = torch.zeros(steps).index_add_(0, owners, torch.ones(count))
        rows = torch.tensor(features(question, read), dtype=torch.float32)
        refers = torch.zeros(steps, steps)
        for index, edges in enumerate(read.graph.edges):
            for edge in edges:
                refers[index, edge.source] = edge.weight
        return EncodedSteps(
            read, encoded.spans, sums / sizes.clamp(min=1)[:, None], tokens, owners, rows, refers
        )

    @torch.inference_mode()
    def _states(self, windows: Sequence[Any]) -> list[Tensor]:
        """Encoder states of each window's trace tokens; windows of like length go together."""
        states: list[Tensor] = [torch.empty(0)] * len(windows)
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].ids))
        for begin in range(0, len(order), self._batch):
            rows = order[begin : begin + self._batch]
            batch = batch_of(
                [windows[i] for i in rows], self._encoder, self.tokenizer,
                device=str(self._encoder.device),
            )  # fmt: skip
            hidden = self._encoder(**batch).last_hidden_state.float().cpu()
            for place, index in enumerate(rows):
                begins = windows[index].offset
                states[index] = hidden[place, begins : begins + windows[index].count].clone()
        return states


class StepScorer:
    """A trained compressor of steps."""

    def __init__(
        self, networks: Sequence[StepNetwork], encoder: StepEncoder, card: StepsCard
    ) -> None:
        self._networks = networks
        self._encoder = encoder
        self.card = card

    @property
    def tokenizer(self) -> Any:
        """The encoder's."""
        return self._encoder.tokenizer

    @classmethod
    def load(cls, folder: Path | None = None, *, batch: int = 8, device: str = "cpu") -> StepScorer:
        """From a compressor's folder, or the one shipped with the package.

        Raises ``CompressorError``, ``PretrainedError``.
        """
        networks, card = load_steps(folder or SHIPPED_STEPS)
        model, tokenizer = load_encoder(card.encoder, card.layers, device=device)
        return cls(networks, StepEncoder(model, tokenizer, card, batch=batch), card)

    def steps(self, items: Sequence[Item]) -> list[ScoredSteps]:
        """Scores of each trace. A trace without words has no steps to score."""
        return [self.score(one) for one in self._encoder.encode(items)]

    @torch.inference_mode()
    def score(self, one: EncodedSteps) -> ScoredSteps:
        """From what the encoder has read."""
        atoms = one.structure.plan.atoms
        if not len(one.features):
            return ScoredSteps(one.structure, (), (), (0.0,) * len(atoms), self.card.caution)
        chances, keeps = [], []
        for network in self._networks:
            state = network(
                one.text[None], one.features[None], one.refers[None],
                torch.ones(1, len(one.features), dtype=torch.bool),
            )[0]  # fmt: skip
            chances.append(network.step_logits(state).sigmoid())
            keeps.append(network.token_logits(one.tokens, state[one.owners]))
        needed, revoked = torch.stack(chances).mean(0).unbind(-1)
        tokens = TokenScores(one.spans, tuple(torch.stack(keeps).mean(0).tolist()))
        return ScoredSteps(
            one.structure, tuple(needed.tolist()), tuple(revoked.tolist()),
            tuple(atom_scores(atoms, tokens)), self.card.caution,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GraphScorer:
    """Cues and dependencies alone: a baseline that has learned nothing."""

    def steps(self, items: Sequence[Item]) -> list[ScoredSteps]:
        """See :meth:`StepScorer.steps`."""
        found = []
        for question, text, answer in items:
            read = structure(question, outline(text, segment(text)), answer)
            needed, revoked = graph_scores(read)
            weights = (0.0,) * len(read.plan.atoms)
            found.append(ScoredSteps(read, tuple(needed), tuple(revoked), weights))
        return found
