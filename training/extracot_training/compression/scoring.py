"""Gives every atom of a trace a score with a trained compressor: one encoder pass per window.

Overlapping windows cover what is beyond the encoder's length; a token's score is the mean of its
keep-logits over the windows that see it, an atom's the mean over its tokens. Ratios play no part
here: one pass serves them all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extracot_training.compression.encoding import Encoded, Window, WindowEncoder
from extracot_training.compression.model import (
    SHIPPED,
    CompressorCard,
    batch_of,
    load_compressor,
)
from extracot_training.compression.segment import Atom


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Character spans of a trace's encoder tokens and their scores."""

    spans: tuple[tuple[int, int], ...]
    scores: tuple[float, ...]


class CompressorScorer:
    """A trained compressor ready to score. ``batch`` is windows per forward pass."""

    def __init__(self, model: Any, tokenizer: Any, card: CompressorCard, *, batch: int = 8) -> None:
        self._model = model
        self._tokenizer = tokenizer
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

    @property
    def tokenizer(self) -> Any:
        """The encoder's own."""
        return self._tokenizer

    def tokens(self, items: Sequence[tuple[str, str]]) -> list[TokenScores]:
        """Token scores of each (question, trace). Windows of all items share batches."""
        encoded = [self._encoder.encode(question, text) for question, text in items]
        windows = [window for one in encoded for window in one.windows]
        logits = self._logits(windows)
        found: list[TokenScores] = []
        at = 0
        for one in encoded:
            part = logits[at : at + len(one.windows)]
            at += len(one.windows)
            found.append(TokenScores(one.spans, tuple(averaged(one, part))))
        return found

    def atoms(
        self, items: Sequence[tuple[str, str]], cut: Callable[[str], list[Atom]]
    ) -> list[tuple[list[Atom], list[float]]]:
        """Atoms of each trace as ``cut`` makes them, and their scores."""
        found = []
        for (_, text), scored in zip(items, self.tokens(items), strict=True):
            atoms = cut(text)
            found.append((atoms, atom_scores(atoms, scored)))
        return found

    @torch.inference_mode()
    def _logits(self, windows: Sequence[Window]) -> list[list[float]]:
        """Keep-logits of each window's trace tokens; windows of like length go together."""
        logits: list[list[float]] = [[] for _ in windows]
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].ids))
        for begin in range(0, len(order), self._batch):
            rows = order[begin : begin + self._batch]
            batch = batch_of(
                [windows[i] for i in rows], self._model, self._tokenizer,
                device=str(self._model.device),
            )  # fmt: skip
            raw = self._model(**batch).logits.float()
            keep = (raw[..., 1] - raw[..., 0]).cpu()
            for place, index in enumerate(rows):
                window = windows[index]
                values = keep[place, window.offset : window.offset + window.count]
                logits[index] = values.tolist()
        return logits


def averaged(encoded: Encoded, logits: Sequence[Sequence[float]]) -> list[float]:
    """Mean over windows for each trace token."""
    sums, seen = [0.0] * len(encoded.spans), [0] * len(encoded.spans)
    for window, values in zip(encoded.windows, logits, strict=True):
        for at, value in enumerate(values, start=window.first):
            sums[at] += value
            seen[at] += 1
    return [total / count for total, count in zip(sums, seen, strict=True)]


def atom_scores(atoms: Sequence[Atom], tokens: TokenScores) -> list[float]:
    """Mean score of each atom's tokens; a token belongs to the atom that holds its last character.

    An atom without tokens (control characters, say) scores below all others.
    """
    sums, counts = [0.0] * len(atoms), [0] * len(atoms)
    starts = [atom.start for atom in atoms]
    for (start, end), score in zip(tokens.spans, tokens.scores, strict=True):
        index = max(0, bisect_right(starts, max(start, end - 1)) - 1)
        sums[index] += score
        counts[index] += 1
    lowest = min(tokens.scores, default=0.0) - 1
    return [total / count if count else lowest for total, count in zip(sums, counts, strict=True)]
