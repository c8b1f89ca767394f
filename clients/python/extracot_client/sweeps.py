"""Problems times budgets: runs them a few at a time, a flat row for each, and adds the rows up.

Asks through a function it is given; reading problems and keeping rows is
:mod:`extracot_client.sweep_files`. Ratios are ratios of sums over the problems both sides have.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, Unpack

from extracot.answers import same_answer
from extracot.usage import ratio_of_sums
from extracot_client import errors
from extracot_client.requests import Problem, SolveOptions
from extracot_client.savings import (
    RowSaving,
    Saving,
    add_up,
    is_native,
    row_savings,
    saved_fields,
)
from extracot_client.types import Budget, Solution, SweepRow

_WILSON_Z = 1.959963984540054  # two-sided 95 %
# What every other request of the sweep would meet as well: going on would only repeat it.
SHARED_FAILURES = (
    errors.ServerUnreachableError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.NotFoundError,
    errors.InvalidBudgetError,
    errors.InvalidArgumentError,
)
_OF_REPORT = {
    *("answer_tokens", "baseline_tokens", "baseline_source", "cap_hit"),
    *("realised_ratio", "saved_tokens_estimate", "total_saved_tokens_estimate", "no_saving"),
    "escaped",
}


@dataclass(frozen=True, slots=True)
class SweepProblem:
    """One problem; ``answer`` is the known bare answer, if there is one."""

    id: str
    question: str
    answer: str | None = None


class Solve(Protocol):
    """How a problem is asked: :meth:`AsyncExtracot.solve`."""

    async def __call__(
        self, problem: Problem, *, budget: Budget = None, **options: Unpack[SolveOptions]
    ) -> Solution: ...


Skip = Callable[[str, Budget, str], bool]


def as_problem(problem: str | SweepProblem) -> SweepProblem:
    """A bare question gets an id made from its text, the same in every run. Raises
    :class:`InvalidArgumentError` for what is no text, and for an answer that no reply could match.
    """
    if isinstance(problem, SweepProblem):
        for name in ("id", "question"):
            if not isinstance(found := getattr(problem, name), str):
                raise errors.InvalidArgumentError(
                    f"The {name} of problem {problem.id!r} is {found!r}; want a text",
                    param="problems",
                )
        encoded(problem.question)
        gold: object = problem.answer
        if gold is not None and (not isinstance(gold, str) or not same_answer(gold, gold)):
            raise errors.InvalidArgumentError(
                f"The answer of problem {problem.id!r} is {gold!r}; want the bare answer as text, "
                "such as '42', or None",
                param="problems",
            )
        return problem
    if not isinstance(problem, str):
        raise errors.InvalidArgumentError(
            f"A problem of a sweep is a text or a SweepProblem, not {_kind(problem)}; whole "
            "conversations are asked by `solve`",
            param="problems",
        )
    return SweepProblem(hashlib.sha256(encoded(problem)).hexdigest()[:12], problem)


def several(
    problems: Iterable[str | SweepProblem], budgets: Iterable[Budget]
) -> tuple[Iterable[str | SweepProblem], list[Budget]]:
    """Both as lists that can be gone through; problems that come one by one still do.

    Raises :class:`InvalidArgumentError` for one problem or budget that is no list of them: a text
    is one of letters.
    """
    for name, found in (("problems", problems), ("budgets", budgets)):
        if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable):
            raise errors.InvalidArgumentError(
                f"`{name}` is a list, not {_kind(found)}: put it in [ ]", param=name
            )
    if isinstance(problems, Sequence):  # All of them, before the first is asked.
        problems = [as_problem(problem) for problem in problems]
    return problems, list(budgets)


def _kind(value: object) -> str:
    return "None" if value is None else f"one {type(value).__name__}"


def encoded(text: str) -> bytes:
    """A problem as UTF-8. Raises :class:`InvalidArgumentError` for halves of characters."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise errors.InvalidArgumentError(
            f"The problem {text[:80]!r} holds half a character (a lone surrogate)", param="problems"
        ) from None


def fingerprint(problem: SweepProblem, options: SolveOptions) -> str:
    """A hash of what is asked besides the budget: so that a resumed sweep never mixes rows of other
    settings or of another text under the same id. Not of who is asked: that is in the row."""
    settings = {name: value for name, value in options.items() if name != "deadline"}
    text = json.dumps([problem.question, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def regraded(row: SweepRow, problem: SweepProblem) -> SweepRow:
    """A row that was kept, judged by the answer that is known now, if there is one."""
    gold = problem.answer
    correct = None if gold is None else same_answer(row.boxed, gold)
    if gold is None or (row.gold, row.correct) == (gold, correct):
        return row
    return row.model_copy(update={"gold": gold, "correct": correct})


def make_row(
    problem: SweepProblem,
    budget: Budget,
    mark: str,
    solution: Solution,
    server: str | None = None,
) -> SweepRow:
    """The row of a reply; ``server`` is where it comes from."""
    report, gold = solution.report, problem.answer
    return SweepRow(
        **_asked(problem, budget, mark),
        boxed=solution.boxed,
        correct=None if gold is None else same_answer(solution.boxed, gold),
        answer=solution.answer,
        reasoning=solution.reasoning,
        finish_reason=solution.finish_reason,
        level=report.chosen or report.level,
        prompt_tokens=solution.usage.prompt_tokens,
        reasoning_tokens=solution.reasoning_tokens,
        completion_tokens=solution.usage.completion_tokens,
        **report.model_dump(include=_OF_REPORT),
        **asdict(solution.timings),
        model=solution.model,
        request_id=solution.request_id,
        server=server,
    )


def _asked(problem: SweepProblem, budget: Budget, mark: str) -> dict[str, Any]:
    """The fields of a row that are known before its reply."""
    known = {"problem_id": problem.id, "question": problem.question, "gold": problem.answer}
    return {**known, "budget": budget, "fingerprint": mark}


async def sweep_rows(
    solve: Solve,
    problems: Iterable[str | SweepProblem],
    budgets: Iterable[Budget],
    *,
    concurrency: int,
    skip: Skip | None,
    server: str | None = None,
    patience: float = math.inf,
    **options: Unpack[SolveOptions],
) -> AsyncGenerator[SweepRow, None]:
    """Rows in order of completion, at most ``concurrency`` requests at a time.

    Raises one of :data:`SHARED_FAILURES`, and the refusal of a server that asks to come back later
    than in ``patience`` seconds, once what runs has ended; any other failure becomes a row with
    ``error``. Closing the generator cancels what runs.
    """
    if concurrency < 1:
        raise errors.InvalidArgumentError("The concurrency is 1 or more", param="concurrency")
    problems, budgets = several(problems, budgets)
    put_off: list[errors.ExtracotAPIError] = []

    async def one(problem: SweepProblem, budget: Budget, mark: str) -> SweepRow | None:
        try:
            solution = await solve(problem.question, budget=budget, **options)
        except SHARED_FAILURES:
            raise
        except errors.ExtracotClientError as error:
            if (refusal := _put_off(error, patience)) is not None:
                put_off.append(refusal)
                return None
            return SweepRow(
                **_asked(problem, budget, mark),
                request_id=getattr(error, "request_id", None),
                server=server,
                error=f"{type(error).__name__}: {error}",
            )
        return make_row(problem, budget, mark, solution, server)

    todo = _todo(problems, budgets, skip, options)
    running: set[asyncio.Task[SweepRow | None]] = set()
    try:
        while True:
            while not put_off and len(running) < concurrency:
                if (item := next(todo, None)) is None:
                    break
                running.add(asyncio.create_task(one(*item)))
            if not running and put_off:
                raise put_off[0]
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (row := task.result()) is not None:
                    yield row
            running -= done
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _put_off(error: errors.ExtracotClientError, patience: float) -> errors.ExtracotAPIError | None:
    """The refusal to raise where a server asks all requests to come back later than one waits."""
    if not isinstance(error, errors.RateLimitError | errors.ServerError):
        return None
    if error.retry_after is None or error.retry_after <= patience:
        return None
    return replace(
        error,
        message=f"{error.message.rstrip('.')}. The server asks to come back in "
        f"{error.retry_after:,.0f} s; a request waits {patience:,.0f} s, so nothing more is sent",
    )


def _todo(
    problems: Iterable[str | SweepProblem],
    budgets: Sequence[Budget],
    skip: Skip | None,
    options: SolveOptions,
) -> Iterator[tuple[SweepProblem, Budget, str]]:
    for given in problems:
        problem = as_problem(given)
        mark = fingerprint(problem, options)
        for budget in budgets:
            if skip is None or not skip(problem.id, budget, mark):
                yield problem, budget, mark


def budget_key(budget: Any) -> str:
    """A budget as one short text: the name of a column, a colour, a group."""
    if isinstance(budget, bool) or not isinstance(budget, int | float | str):
        return "default" if budget is None else json.dumps(budget, sort_keys=True)
    if isinstance(budget, float) and float(short := f"{budget:g}") == budget:
        return short
    return str(budget)


@dataclass(frozen=True, slots=True)
class BudgetSummary:
    """One budget of a sweep. Means are over the rows without error, times in seconds."""

    budget: str
    n: int
    errors: int
    graded: int
    correct: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    reasoning_tokens: float | None
    completion_tokens: float | None
    ratio_to_native: float | None
    """Reasoning tokens over those of the sweep's own ``native`` rows."""
    saved_against: Literal["native rows", "server's baseline"] | None
    """What the savings are measured by: the sweep's own native rows, or the server's estimates."""
    saved_rows: int
    """How many rows ``saved_tokens`` is the sum over."""
    total_saved_rows: int
    """How many rows ``total_saved_tokens`` is the sum over: a reply that was cut may have this one
    alone."""
    saved_tokens: float | None
    """Sum of the reasoning tokens saved."""
    total_saved_tokens: float | None
    """Sum of all generated tokens saved, with its 95 % interval where it was measured."""
    total_saved_low: float | None
    total_saved_high: float | None
    assumed_baselines: int
    total_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def wilson(correct: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> [round(bound, 3) for bound in wilson(8, 10)]
    [0.49, 0.943]
    """
    z2 = _WILSON_Z**2
    centre = (correct + z2 / 2) / (n + z2)
    spread = _WILSON_Z * math.sqrt(correct * (n - correct) / n + z2 / 4) / (n + z2)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; ``None`` without any."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def summarise(rows: Iterable[SweepRow], budgets: Sequence[Any]) -> list[BudgetSummary]:
    """One summary per budget, in the order of ``budgets``."""
    groups: dict[str, list[SweepRow]] = {budget_key(budget): [] for budget in budgets}
    for row in rows:
        groups.setdefault(budget_key(row.budget), []).append(row)
    native = {
        row.problem_id: row.reasoning_tokens
        for group in groups.values()
        for row in group
        if is_native(row) and row.reasoning_tokens is not None
    }
    every = [row for group in groups.values() for row in group]
    savings: dict[str, list[RowSaving | None]] = {name: [] for name in groups}
    for row, saving in zip(every, row_savings(every), strict=True):
        savings[budget_key(row.budget)].append(saving)
    return [_summary(name, group, native, add_up(savings[name])) for name, group in groups.items()]


def _summary(
    name: str, rows: list[SweepRow], native: dict[str, int], saving: Saving | None
) -> BudgetSummary:
    good = [row for row in rows if row.error is None]
    graded = [row for row in good if row.correct is not None]
    correct = sum(row.correct is True for row in graded)
    low, high = wilson(correct, len(graded)) if graded else (None, None)
    pairs = [
        (row.reasoning_tokens, native[row.problem_id])
        for row in good
        if row.reasoning_tokens is not None and row.problem_id in native
    ]
    return BudgetSummary(
        budget=name,
        n=len(rows),
        errors=len(rows) - len(good),
        graded=len(graded),
        correct=correct,
        accuracy=correct / len(graded) if graded else None,
        accuracy_low=low,
        accuracy_high=high,
        reasoning_tokens=mean(row.reasoning_tokens for row in good),
        completion_tokens=mean(row.completion_tokens for row in good),
        ratio_to_native=ratio_of_sums([own for own, _ in pairs], [full for _, full in pairs]),
        **saved_fields(saving),
        assumed_baselines=sum(row.baseline_source == "assumed" for row in good),
        total_seconds=mean(row.total for row in good),
    )
