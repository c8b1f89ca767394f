"""What the generator makes: a problem with its tellings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A generated problem. ``trace`` is the verbose reasoning, ``terse`` its equations alone,
    ``final`` the text after the reasoning (holds ``\\boxed{}``); ``brief`` and ``brief_final`` tell
    the same in a few fixed sentences; ``numbers`` are the given ones.

    With interleaved stories there is one telling: ``trace`` and ``brief`` are the same text, over
    all; ``family``, ``steps``, ``terse`` and the final texts are those of the one asked for.
    """

    index: int
    family: str
    question: str
    answer: int
    steps: int
    trace: str
    terse: str
    final: str
    brief: str
    brief_final: str
    numbers: tuple[int, ...]
    stories: tuple[str, ...]
    """What each story tells, without the names of persons; the one asked for first."""
