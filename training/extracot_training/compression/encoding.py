"""Question and trace as windows of encoder tokens, and labels for them.

A window is ``[CLS] question [SEP] part of the trace [SEP]``, the question in every window. Question
and special tokens are labelled -100; a trace token is 1 if it overlaps a kept span. Works with any
fast tokenizer: special tokens a tokenizer lacks are left out. Knows no model.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from extracot_training.errors import TrainingError

IGNORED = -100
# Room a window must leave for the trace, however long the question.
SMALLEST_ROOM = 16


class WindowError(TrainingError):
    """The encoder's length leaves no room for a trace."""


@dataclass(frozen=True, slots=True)
class Window:
    """``ids`` with ``kinds`` (token type ids); trace tokens ``first..first+count`` of the whole
    trace stand at position ``offset``. ``asked`` are the positions that see everything."""

    ids: tuple[int, ...]
    kinds: tuple[int, ...]
    offset: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A trace's token spans (character offsets) and its windows."""

    spans: tuple[tuple[int, int], ...]
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How windows are cut: ``length`` tokens at most, the question's share at most
    ``question`` (0: the question is not shown at all), neighbours sharing ``overlap`` of a window's
    room. Of a question that is too long ``asking`` says what stays: its end alone, or as much of
    its beginning."""

    length: int = 512
    question: int = 128
    overlap: float = 0.25
    asking: bool = False


class WindowEncoder:
    """Cuts windows for one tokenizer and layout."""

    def __init__(self, tokenizer: Any, layout: Layout) -> None:
        self._tokenizer = tokenizer
        self._layout = layout
        self._begin = _known(tokenizer.cls_token_id, tokenizer.bos_token_id)
        self._separator = _known(tokenizer.sep_token_id, tokenizer.eos_token_id)

    def encode(self, question: str, text: str, *, overlap: float | None = None) -> Encoded:
        """All windows of a trace. An empty trace has none. Raises :class:`WindowError`."""
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoding.input_ids
        head = [*self._begin, *self._question(question), *self._separator]
        room = self._layout.length - len(head) - len(self._separator)
        if room < SMALLEST_ROOM:
            raise WindowError(
                f"an encoder of {self._layout.length} tokens leaves {room} for the trace; "
                "shorten the question's share"
            )
        windows: list[Window] = []
        for first in _starts(len(ids), room, self._layout.overlap if overlap is None else overlap):
            part = (*ids[first : first + room], *self._separator)
            kinds = (0,) * len(head) + (1,) * len(part)
            count = len(part) - len(self._separator)
            windows.append(Window((*head, *part), kinds, len(head), first, count))
        return Encoded(tuple(encoding.offset_mapping), tuple(windows))

    def _question(self, question: str) -> list[int]:
        """The question's tokens; of one too long the middle or the beginning is left out (the end
        asks)."""
        if not self._layout.question:
            return []
        ids: list[int] = self._tokenizer.encode(question, add_special_tokens=False)
        limit = self._layout.question
        if len(ids) <= limit:
            return ids
        if self._layout.asking:
            return ids[-limit:]
        return ids[: limit // 2] + ids[len(ids) - (limit - limit // 2) :]


def token_labels(spans: Sequence[tuple[int, int]], keep: Sequence[tuple[int, int]]) -> list[int]:
    """1 for each token span that overlaps a kept character span (sorted, disjoint), else 0.

    White space that a tokenizer puts in front of a word (``Ġhave``) does not count as overlap: a
    token is judged by where it ends.
    """
    starts = [start for start, _ in keep]
    labels = []
    for start, end in spans:
        position = bisect_right(starts, max(start, end - 1)) - 1
        labels.append(int(position >= 0 and keep[position][1] > max(start, end - 1)))
    return labels


def window_labels(window: Window, labels: Sequence[int]) -> list[int]:
    """The window's labels: -100 but for its part of the trace."""
    inside = labels[window.first : window.first + window.count]
    behind = len(window.ids) - window.offset - window.count
    return [IGNORED] * window.offset + list(inside) + [IGNORED] * behind


def _starts(total: int, room: int, overlap: float) -> Iterator[int]:
    """Where windows begin; the last one ends with the trace, so none is a mere stub."""
    if total == 0:
        return
    stride = max(1, room - int(room * overlap))
    first = 0
    while first + room < total:
        yield first
        first += stride
    yield max(0, min(first, total - room)) if overlap else first


def _known(*candidates: int | None) -> list[int]:
    return next(([candidate] for candidate in candidates if candidate is not None), [])
