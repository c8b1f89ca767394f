"""The rows of an evaluation: replies as they came, and the same replies judged."""

from __future__ import annotations

from typing import Literal

from extracot_training.config.evaluate import Budget
from extracot_training.pipeline.records import Count, NonEmpty, Record

REPLIES_FILENAME = "replies.jsonl"


def budget_name(budget: Budget) -> str:
    """``0.2`` -> ``"0.2"``, ``1`` -> ``"1.0"``; a word is its own name."""
    return budget if isinstance(budget, str) else str(float(budget))


def row_key(problem_id: str, budget: str, sample: int) -> str:
    """``problem/budget/sample``."""
    return f"{problem_id}/{budget}/{sample}"


class Measured(Record):
    """One request and what came of it.

    ``refused`` is the server's message if it would not answer this request; nothing was measured
    then. ``level`` is the trained level that was applied or chosen. ``completion_tokens`` are the
    generated ones; reasoning that was never closed counts in full. ``closed_by`` says who closed
    the block (``None``: nobody, or there was none), ``unclosed`` that the reply ended inside it.
    Times are seconds from sending the request (the last try); ``started`` is the Unix time.
    """

    problem_id: NonEmpty
    budget: NonEmpty
    sample: Count
    seed: int
    refused: str | None = None
    answer: str = ""
    level: float | None = None
    chosen_probability: float | None = None
    prompt_tokens: Count = 0
    reasoning_tokens: Count | None = None
    answer_tokens: Count | None = None
    completion_tokens: Count = 0
    closed_by: Literal["model", "server"] | None = None
    unclosed: bool = False
    cap_hit: bool = False
    finish_reason: str | None = None
    first_token_s: float | None = None
    first_answer_s: float | None = None
    seconds: float = 0.0
    started: float = 0.0
    attempts: int = 1

    @property
    def key(self) -> str:
        return row_key(self.problem_id, self.budget, self.sample)


class Reply(Measured):
    """A line of ``replies.jsonl``, written as soon as it is there."""

    reasoning: str = ""


class EvalRow(Measured):
    """A line of ``rows.jsonl``: the reply judged against the gold.

    ``correct`` by mathematics, ``strict`` by the boxed text; ``boxed`` is the answer found,
    ``asked`` the problem's. ``calculations`` are those of the whole reply that could be judged,
    ``miscalculated`` those of them that do not hold.
    """

    gold: NonEmpty
    family: str | None = None
    steps: Count | None = None
    asked: Count | None = None
    boxed: str | None = None
    correct: bool
    strict: bool
    calculations: Count = 0
    miscalculated: Count = 0
