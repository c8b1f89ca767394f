"""Which compressed traces are fit to train on, and sorting them into ratios.

A compressed trace that repeats itself, or is too short to be reasoning, teaches a model to do the
same. Pure functions over rows; nothing here knows how a trace was compressed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from extracot_training.compression.segment import Kind, segment
from extracot_training.config.compress import CleaningSettings
from extracot_training.pipeline.records import CompressedTrace

_WORDS = re.compile(r"\w+|[^\w\s]")
_STRAY = re.compile(r"([,;:!?])(?:\s*[,;:!?])+")
_DOTS = re.compile(r"(?<!\.)\.\.(?!\.)|\.{4,}")


def tidy(text: str) -> str:
    """Runs of stray punctuation become one sign; ``...`` stays. Formulas are not touched."""
    parts = []
    for atom in segment(text):
        if atom.kind is Kind.WORD:
            body = _STRAY.sub(r"\1", atom.body)
            body = _DOTS.sub(lambda match: "." if len(match.group()) == 2 else "...", body)
            parts.append(body + atom.trail)
        else:
            parts.append(atom.text)
    return "".join(parts)


def fault(text: str, ratio: float, tokens: int, limits: CleaningSettings) -> str | None:
    """Why a text is unfit at this ratio, or ``None``."""
    if tokens < limits.min_tokens:
        return "too short"
    found = _WORDS.findall(text.lower())
    strict = 0.7 + 0.3 * ratio
    if len(found) >= 8:
        if _repeats(found, 2) > limits.max_bigram_repeats * strict:
            return "repeated pairs"
        if _repeats(found, 3) > limits.max_trigram_repeats * strict:
            return "repeated triples"
        meaningful = [word for word in found if word.isalpha()] or found
        if Counter(meaningful).most_common(1)[0][1] / len(found) > limits.max_top_word * strict:
            return "one word too often"
    if max((len(list(run)) for _, run in groupby(found)), default=0) > limits.max_run:
        return "one word in a row"
    return None


def clean_rows(
    rows: Sequence[CompressedTrace],
    ratios: Sequence[float],
    bucket: float,
    limits: CleaningSettings,
) -> tuple[list[CompressedTrace], dict[str, int]]:
    """Rows that are fit, within ``bucket`` of their ratio, and whose sample has all ``ratios``.

    Returns them with the counts of what was left out and why. Ratio 1.0 is the trace itself and is
    not judged.
    """
    dropped: Counter[str] = Counter()
    fit: dict[str, dict[float, CompressedTrace]] = {}
    for row in rows:
        text = tidy(row.text) if row.target < 1 else row.text
        why = None
        if row.target < 1:
            why = fault(text, row.target, row.tokens_kept, limits)
            if why is None and abs(row.realised - row.target) > bucket:
                why = "outside its bucket"
        if why is not None:
            dropped[why] += 1
            continue
        sample = f"{row.problem_id}/{row.sample}"
        fit.setdefault(sample, {})[row.target] = row.model_copy(update={"text": text})
    kept: list[CompressedTrace] = []
    for levels in fit.values():
        if all(ratio in levels for ratio in ratios):
            kept.extend(levels[ratio] for ratio in ratios)
        else:
            dropped["not at every ratio"] += len(levels)
    return kept, dict(dropped)


def _repeats(found: Sequence[str], size: int) -> float:
    """Share of n-grams that occurred before."""
    grams = list(zip(*(found[i:] for i in range(size)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
