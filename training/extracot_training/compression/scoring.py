"""Gives every atom of a trace a score with a trained compressor: one encoder pass per window.

Overlapping windows cover what is beyond the encoder's length; a token's score is the mean of its
keep-logits over the windows that see it, an atom's the mean over its tokens. Ratios play no part
here: one pass serves them all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from extracot_training.compression.encoding import Encoded, Window, WindowEncoder
from extracot_training.compression.model import SHIPPED, CompressorCard, batch_of, load_compressor
from extracot_training.compression.segment import Atom
from extracot_training.pipeline.statistics import means_at


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Character spans of a trace's encoder tokens and their scores."""

    spans: tuple[tuple[int, int], ...]
    scores: tuple[float, ...]


class CompressorScorer:
    """A trained compressor ready to score, and its encoder's tokenizer. ``batch`` is windows per
    forward pass."""

    def __init__(self, model: Any, tokenizer: Any, card: CompressorCard, *, batch: int = 8) -> None:
        self._model = model
        self.tokenizer = tokenizer
        self._encoder = WindowEncoder(tokenizer, card.layout)
        self._batch = batch

    @classmethod
    def load(
        cls, folder: Path | None = None, *, batch: int = 8, device: str = "cpu"
    ) -> CompressorScorer:
        """From a compressor's folder, or the one shipped with the package.

        Raises ``CompressorError``, ``PretrainedError``.
        """
        return cls(*load_compressor(folder or SHIPPED, device=device), batch=batch)

    def tokens(self, items: Sequence[tuple[str, str]]) -> list[TokenScores]:
        """Token scores of each (question, trace). Windows of all items share batches."""
        encoded = [self._encoder.encode(question, text) for question, text in items]
        logits = iter(self._logits([window for one in encoded for window in one.windows]))
        return [
            TokenScores(one.spans, tuple(averaged(one, list(islice(logits, len(one.windows))))))
            for one in encoded
        ]

    def atoms(
        self, items: Sequence[tuple[str, str]], cut: Callable[[str], list[Atom]]
    ) -> list[tuple[list[Atom], list[float]]]:
        """Atoms of each trace as ``cut`` makes them, and their scores."""
        cuts = [cut(text) for _, text in items]
        scored = zip(cuts, self.tokens(items), strict=True)
        return [(atoms, atom_scores(atoms, tokens)) for atoms, tokens in scored]

    @torch.inference_mode()
    def _logits(self, windows: Sequence[Window]) -> list[list[float]]:
        """Keep-logits of each window's trace tokens; windows of like length go together."""
        logits: list[list[float]] = [[] for _ in windows]
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].ids))
        for begin in range(0, len(order), self._batch):
            rows = order[begin : begin + self._batch]
            batch = batch_of(
                [windows[i] for i in rows], self._model, self.tokenizer,
                device=str(self._model.device),
            )  # fmt: skip
            raw = self._model(**batch).logits.float()
            keep = (raw[..., 1] - raw[..., 0]).cpu()
            for place, index in enumerate(rows):
                begins = windows[index].offset
                logits[index] = keep[place, begins : begins + windows[index].count].tolist()
        return logits


def averaged(encoded: Encoded, logits: Sequence[Sequence[float]]) -> list[float]:
    """Mean over windows for each trace token."""
    seen = (
        numbered
        for window, values in zip(encoded.windows, logits, strict=True)
        for numbered in enumerate(values, start=window.first)
    )
    return means_at(len(encoded.spans), seen, 0.0)


def atom_scores(atoms: Sequence[Atom], tokens: TokenScores) -> list[float]:
    """Mean score of each atom's tokens; a token belongs to the atom that holds its last character.

    An atom without tokens (control characters, say) scores below all others.
    """
    starts = [atom.start for atom in atoms]
    found = (
        (max(0, bisect_right(starts, max(start, end - 1)) - 1), score)
        for (start, end), score in zip(tokens.spans, tokens.scores, strict=True)
    )
    return means_at(len(atoms), found, min(tokens.scores, default=0.0) - 1)
