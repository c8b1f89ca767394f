"""What ``extracot calibrate`` asks: natively, without reasoning, at each effort and at each cap.

First natively, because a cap is a share of that; the rest is paired with it, problem by problem and
seed by seed. Sends nothing itself and writes nothing.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from extracot.card import BUDGET_WORDS
from extracot.figures import BaselineBin, TokenSummary, level_cap
from extracot_client.batches import Batch
from extracot_client.errors import InvalidArgumentError
from extracot_client.intervals import percentile
from extracot_client.matching import judge
from extracot_client.requests import SolveOptions
from extracot_client.sweeps import SweepProblem
from extracot_client.types import Budget, BudgetCardPage, SweepRow, number_at

NATIVE, NONE = "native", "none"
MOST_BINS = 3
FEWEST_IN_BIN = 30


@dataclass(frozen=True, slots=True)
class Level:
    """One level to measure: a cap of ``ratio`` x the baseline, or an ``effort`` of the template."""

    name: str
    ratio: float | None = None
    effort: str | None = None

    @property
    def enforced_by(self) -> Literal["cap", "effort"]:
        """What will keep a reply to it."""
        return "cap" if self.effort is None else "effort"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of which problems. ``assumed`` is the server's baseline before any is measured,
    of which a ratio is a share."""

    problems: Sequence[SweepProblem]
    levels: Sequence[Level]
    seeds: Sequence[int]
    assumed: float
    options: SolveOptions = field(default_factory=SolveOptions)

    @property
    def requests(self) -> int:
        """How many there are in all."""
        return len(self.problems) * len(self.seeds) * (len(self.levels) + 2)

    def tokens(self, native: float, answer: float) -> int:
        """About how many will be generated if replies reason and answer for as long as this."""
        shares = [1.0 if level.ratio is None else level.ratio for level in self.levels]
        reasoning = native * (1 + sum(shares))
        each = len(self.problems) * len(self.seeds)
        return round(each * (reasoning + answer * (len(self.levels) + 2)))

    def words(self) -> Iterator[Batch]:
        """Native, and none."""
        for word in (NATIVE, NONE):
            yield from self._seeded(word, self.problems, word)

    def of_levels(self, bins: Sequence[BaselineBin], prompts: Mapping[str, int]) -> Iterator[Batch]:
        """Every level, where ``prompts`` is how long each problem's prompt is."""
        for level in self.levels:
            if level.effort is not None:
                extra = {"reasoning_effort": level.effort}
                yield from self._seeded(level.name, self.problems, NATIVE, extra=extra)
                continue
            for entry in bins:
                own = [one for one in self.problems if bin_of(bins, prompts[one.id]) is entry]
                cap = level_cap(level.ratio or 1.0, entry.reasoning.mean)
                yield from self._seeded(level.name, own, self.capped(cap))

    def capped(self, tokens: int) -> Budget:
        """A cap as the level will have it in the end, an opened block and grace included: as a
        ratio, which goes up to the server's baseline (:meth:`check_reach`)."""
        return {"ratio": tokens / self.assumed}

    def check_reach(self, bins: Sequence[BaselineBin]) -> None:
        """Raise :class:`InvalidArgumentError` for a cap beyond what the server takes for 1.0."""
        shares = [level.ratio for level in self.levels if level.ratio is not None]
        longest = max(entry.reasoning.mean for entry in bins)
        most = level_cap(max(shares), longest) if shares else 0
        if most > self.assumed:
            raise InvalidArgumentError(
                f"Natively the model reasons for {longest:.0f} tokens, and the server assumes "
                f"{self.assumed:.0f}, beyond which no ratio goes: start it with "
                f"--assumed-reasoning-tokens {math.ceil(most / 100) * 100}, and run this again",
                param="ratios",
            )

    def _seeded(
        self,
        name: str,
        problems: Sequence[SweepProblem],
        budget: Budget,
        extra: Mapping[str, str] | None = None,
    ) -> Iterator[Batch]:
        for seed in self.seeds if problems else ():
            options: SolveOptions = {**self.options, "seed": seed}
            if extra is not None:
                options["extra"] = extra
            yield Batch(name, problems, budget, options)


def levels_of(ratios: Iterable[float], efforts: Iterable[str]) -> list[Level]:
    """The levels by their ratios and efforts; raises :class:`InvalidArgumentError`."""
    found = [Level(str(float(ratio)), ratio=ratio) for ratio in sorted(set(ratios))]
    for level in found:
        if not 0 < (level.ratio or 0) <= 1:
            raise InvalidArgumentError(f"--ratios: {level.name} is not in (0, 1]", param="ratios")
    # An effort of none is the budget none, which is measured anyway.
    found += [Level(name, effort=name) for name in dict.fromkeys(efforts) if name != NONE]
    names = [level.name for level in found]
    for name in names:
        if name in BUDGET_WORDS or names.count(name) > 1 or name.split() != [name]:
            what = f"--efforts: {name!r} is no name for a level, which is one word and no budget"
            raise InvalidArgumentError(what, param="efforts")
    if len(found) < 2:
        raise InvalidArgumentError("A card has two levels or more: give --ratios", param="ratios")
    return found


def check_page(page: BudgetCardPage) -> None:
    """Raise :class:`InvalidArgumentError` where the server would not do what is asked of it."""
    if not page.takes_card:
        raise InvalidArgumentError(
            f"{page.model} can have no budget card, so there is nothing to measure for one: its "
            "servers are asked by chat messages (engine openai)",
            param="model",
        )
    if page.card is not None:
        raise InvalidArgumentError(
            f"{page.model} is served with a budget card already; start the server with --card none"
            + "".join(_flags(page)),
            param="model",
        )
    if "tokenizer_hash" not in page.prompt:
        raise InvalidArgumentError(
            "The server does not tell what its prompts are made with; it is older than this client"
        )
    for bound in ("floor", "ceiling", "reasoning_tokens_ceiling"):
        if page.policy.get(bound) is not None:
            raise InvalidArgumentError(
                f"The operator's {bound} holds for this key, so nothing beyond it can be measured; "
                "calibrate without it"
            )
    if number_at(page.holdout, "fraction"):
        raise InvalidArgumentError(
            "The server's holdout runs some requests natively; calibrate without it "
            "(--holdout-fraction 0)"
        )


def _flags(page: BudgetCardPage) -> Iterator[str]:
    """What prompts are made with comes from the card: it has to be set where there is none."""
    for name in ("instruction", "system_prompt"):
        text = page.prompt.get(name)
        if isinstance(text, str) and text:
            flag = f" --{name.replace('_', '-')} "
            yield flag + (shlex.quote(text) if text.isprintable() else "'…' (as the card has it)")


def efforts_of(page: BudgetCardPage) -> list[str]:
    """The efforts that the chat template takes, as the model's profile says."""
    found = page.profile.get("efforts")
    return [effort for effort in found or () if isinstance(effort, str)]


def judged(rows: Iterable[SweepRow], name: str) -> list[SweepRow]:
    """Rows as they are counted: under the name of their level, and with a verdict of which ``None``
    means that the grader cannot tell."""
    return [
        row.model_copy(
            update={
                "budget": name,
                "level": name,
                "correct": None if row.gold is None else judge(row.boxed, row.gold),
            }
        )
        for row in rows
    ]


def baseline_bins(rows: Sequence[SweepRow]) -> list[BaselineBin]:
    """Native tokens by prompt length: as many bins as have enough problems, of like sizes."""
    lengths = prompt_lengths(rows)
    count = max(1, min(MOST_BINS, len(lengths) // FEWEST_IN_BIN))
    edges = sorted(
        {round(percentile(list(lengths.values()), at / count)) for at in range(1, count)}
    )
    limits: list[int | None] = [*(edge for edge in edges if edge > 0), None]
    bins, below = [], 0
    for limit in limits:
        own = [row for row in rows if below < lengths[row.problem_id] <= (limit or 10**9)]
        if own:
            bins.append(
                BaselineBin(
                    max_prompt_tokens=limit,
                    n=len({row.problem_id for row in own}),
                    reasoning=token_summary([row.reasoning_tokens or 0 for row in own]),
                    answer=token_summary([row.answer_tokens or 0 for row in own]),
                )
            )
        below = limit or below
    if bins[-1].max_prompt_tokens is not None:  # no prompt is longer than the last limit
        bins[-1] = bins[-1].model_copy(update={"max_prompt_tokens": None})
    return bins


def prompt_lengths(rows: Iterable[SweepRow]) -> dict[str, int]:
    """How long the native prompt of each problem is, in tokens."""
    return {row.problem_id: max(1, row.prompt_tokens or 1) for row in rows}


def bin_of(bins: Sequence[BaselineBin], prompt_tokens: int) -> BaselineBin:
    """The bin that a prompt of this length falls into; the last has no limit."""
    limits = ((entry, entry.max_prompt_tokens) for entry in bins)
    return next(entry for entry, limit in limits if limit is None or prompt_tokens <= limit)


def token_summary(values: Sequence[int]) -> TokenSummary:
    """Mean, median and 90th percentile of counts."""
    return TokenSummary(
        mean=sum(values) / len(values), p50=percentile(values, 0.5), p90=percentile(values, 0.9)
    )
