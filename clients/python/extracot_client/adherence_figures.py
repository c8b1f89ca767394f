"""How well a server keeps to reasoning budgets: every figure of ``extracot adherence``.

``docs/adherence.md`` defines each of them in words; :data:`DEFINITION` changes when one does.
Knows rows only, and nothing of who served them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from extracot.answers import extract_answer
from extracot.escapes import escape_of
from extracot.reasoning import ThinkTags, split_reasoning
from extracot_client.intervals import (
    Estimate,
    MeanEstimate,
    mean_of,
    paired_shares,
    percentile,
    share,
)
from extracot_client.matching import judge
from extracot_client.types import SweepRow

DEFINITION = "adherence 3"
WITHIN = 0.1
Count = Callable[[str], int]
"""How many tokens a text is."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one reply did. ``realised`` is recounted where there is a tokenizer, else reported."""

    problem: str
    realised: int | None
    reported: int | None
    recounted: int | None
    answer: int | None
    correct: bool | None
    escaped: bool
    empty: bool
    first_answer: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """One server at one cap (``None``: without a budget). Shares and means have intervals."""

    server: str
    requested: int | None
    n: int
    failed: int
    realised: MeanEstimate | None
    ratio: float | None
    """Mean realised over requested."""
    within: Estimate | None
    over: Estimate | None
    binding: int | None
    within_binding: Estimate | None
    accuracy: Estimate | None
    undecided: int
    accuracy_to_first: Estimate | None
    """Accuracy minus that of the first server, over the same problems."""
    kept: Estimate | None
    """Right, and without reasoning in the answer, which no cap bounds."""
    kept_to_first: Estimate | None
    escapes: Estimate | None
    empty: Estimate | None
    answer_tokens: float | None
    reported: float | None
    recounted: float | None
    agreeing: Estimate | None
    first_answer_p50: float | None
    first_answer_p90: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def opens_block(rows: Iterable[SweepRow], tags: ThinkTags) -> bool:
    """Whether the server leaves tags in the text and its template opens the block: a reply has the
    end tag alone."""
    texts = [row.answer or "" for row in rows if not row.reasoning]
    return any(tags.end in text and not _begins(text, tags) for text in texts)


def _begins(text: str, tags: ThinkTags) -> bool:
    return text.lstrip().startswith(tags.start)


def read_reply(
    row: SweepRow, count: Count | None, tags: ThinkTags, *, opened: bool = False
) -> Reply:
    """A row as a reply; tags that a server left in the text are taken out of the answer here.

    ``opened``: its replies begin inside the block (:func:`opens_block`), so that one that was cut
    off before the end tag is all reasoning.
    """
    reasoning, answer = row.reasoning or "", row.answer or ""
    boxed, first_answer = row.boxed, row.first_answer
    begun, cut = _begins(answer, tags), opened and row.finish_reason == "length"
    if not reasoning and (begun or cut or tags.end in answer):
        parts = split_reasoning(answer, tags, in_reasoning=not begun)
        reasoning, answer = parts.reasoning, parts.answer
        # The client took the reasoning for the answer: its box is none, its first text neither.
        boxed, first_answer = extract_answer(answer), None
    recounted = None if count is None else count(reasoning)
    length = None if count is None else count(answer)
    if length is None and None not in (row.completion_tokens, row.reasoning_tokens):
        length = (row.completion_tokens or 0) - (row.reasoning_tokens or 0)
    return Reply(
        problem=row.problem_id,
        realised=row.reasoning_tokens if recounted is None else recounted,
        reported=row.reasoning_tokens,
        recounted=recounted,
        answer=length,
        correct=None if row.gold is None else judge(boxed, row.gold),
        # A server that leaves out the end tag that came late knows of it, and the text does not.
        escaped=bool(row.escaped) or escape_of(answer, reasoning, tags) is not None,
        empty=not answer.strip(),
        first_answer=first_answer,
    )


def figures(
    server: str,
    requested: int | None,
    rows: Sequence[SweepRow],
    *,
    native: Mapping[str, float],
    first: Sequence[Reply] | None,
    count: Count | None = None,
    tags: ThinkTags | None = None,
    opened: bool = False,
) -> Figures:
    """The figures of one server at one cap.

    ``native`` is the mean realised length of each problem without a budget at this server (a cap
    binds where that is no shorter), ``first`` the first server's replies; ``None``: this is the
    first server. ``opened``: see :func:`read_reply`.
    """
    good = [row for row in rows if row.error is None]
    tags = ThinkTags() if tags is None else tags
    replies = [read_reply(row, count, tags, opened=opened) for row in good]
    times = [reply.first_answer for reply in replies if reply.first_answer is not None]
    counted = [reply for reply in replies if None not in (reply.reported, reply.recounted)]
    return Figures(
        server=server,
        requested=requested,
        n=len(replies),
        failed=len(rows) - len(good),
        **_kept(replies, requested, native),
        accuracy=_share(replies, right),
        undecided=sum(
            reply.correct is None and row.gold is not None
            for reply, row in zip(replies, good, strict=True)
        ),
        accuracy_to_first=_against(replies, first, right),
        kept=_share(replies, right_as_kept),
        kept_to_first=_against(replies, first, right_as_kept),
        escapes=_share(replies, lambda reply: reply.escaped),
        empty=_share(replies, lambda reply: reply.empty),
        answer_tokens=_mean(reply.answer for reply in replies),
        reported=_mean(reply.reported for reply in replies),
        recounted=_mean(reply.recounted for reply in replies),
        agreeing=_share(counted, _agrees),
        first_answer_p50=percentile(times, 0.5) if times else None,
        first_answer_p90=percentile(times, 0.9) if times else None,
    )


def _kept(
    replies: Sequence[Reply], requested: int | None, native: Mapping[str, float]
) -> dict[str, Any]:
    """What there is to say of the lengths: against what was requested, if anything was."""
    known = [reply for reply in replies if reply.realised is not None]
    lengths = _by_problem(known, lambda reply: reply.realised)
    realised = mean_of(lengths.values(), least=0.0)
    if requested is None:
        names = ("ratio", "within", "over", "binding", "within_binding")
        return {"realised": realised, **dict.fromkeys(names)}
    bound = [reply for reply in known if native.get(reply.problem, -1.0) >= requested]

    def near(reply: Reply) -> bool:
        return abs((reply.realised or 0) - requested) <= WITHIN * requested

    def over(reply: Reply) -> bool:
        slack = 0.0 if reply.recounted is None else _slack(requested)
        return (reply.realised or 0) > requested + slack

    return {
        "realised": realised,
        "ratio": realised.mean / requested if realised is not None else None,
        "within": _share(known, near),
        "over": _share(known, over),
        "binding": len(bound),
        "within_binding": _share(bound, near),
    }


def right(reply: Reply) -> bool | None:
    """``None``: the grader cannot tell."""
    return reply.correct


def right_as_kept(reply: Reply) -> bool | None:
    """Right by the reasoning that was asked for: an escape has had more."""
    return None if reply.correct is None else reply.correct and not reply.escaped


def _against(
    replies: Sequence[Reply],
    first: Sequence[Reply] | None,
    holds: Callable[[Reply], bool | None],
) -> Estimate | None:
    """A share minus the first server's, over the problems that both have."""
    if first is None:
        return None
    mine, theirs = means(replies, holds), means(first, holds)
    both = [key for key in mine if key in theirs]
    return paired_shares([mine[key] for key in both], [theirs[key] for key in both])


def means(
    replies: Iterable[Reply], value: Callable[[Reply], float | bool | None]
) -> dict[str, float]:
    """The mean of a value by problem, of the replies that have one."""
    groups = _by_problem(replies, value)
    return {problem: sum(found) / len(found) for problem, found in groups.items()}


def _by_problem(
    replies: Iterable[Reply], value: Callable[[Reply], float | bool | None]
) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for reply in replies:
        if (found := value(reply)) is not None:
            groups.setdefault(reply.problem, []).append(float(found))
    return groups


def _share(replies: Iterable[Reply], holds: Callable[[Reply], bool | None]) -> Estimate | None:
    """The share of replies of which something holds, of those that have it."""
    groups: dict[str, list[bool]] = {}
    for reply in replies:
        if (found := holds(reply)) is not None:
            groups.setdefault(reply.problem, []).append(found)
    return share(list(groups.values()))


def _agrees(reply: Reply) -> bool:
    reported, recounted = reply.reported or 0, reply.recounted or 0
    return abs(reported - recounted) <= _slack(recounted)


def _slack(tokens: int) -> float:
    """What recounting a text may add: two tokens at the tags, where a word may be cut, or 2 %."""
    return max(2.0, 0.02 * tokens)


def _mean(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
