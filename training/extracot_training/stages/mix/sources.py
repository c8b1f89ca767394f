"""Sources of the mixture: each trace at every ratio, and the level each problem needs.

Knows the rows of the stages before; knows no tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

from extracot_training.config.mix import MixConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.records import (
    CompressedTrace,
    Problem,
    SampleRecord,
    Trace,
    read_rows,
)
from extracot_training.pipeline.reference_rows import RStarRow

NAMED = 3
"""So many traces that are missing are named."""


@dataclass(frozen=True, slots=True)
class Source:
    """One trace: ``texts`` maps a ratio to its reasoning, ``full`` is the whole of it."""

    problem_id: str
    sample: int
    question: str
    answer: str
    full: str
    texts: Mapping[float, str]

    @classmethod
    def of(cls, row: Trace | CompressedTrace, full: str, texts: Mapping[float, str]) -> Self:
        return cls(row.problem_id, row.sample, row.question, row.answer, full, texts)


def read_sources(config: MixConfig, lost: Counter[str]) -> list[Source]:
    """The traces of the wanted splits, sorted by key, at most ``config.limit``; then those for
    ``config.further_native`` and of ``config.also``, which have no texts but the whole.

    ``lost`` counts those left out, by why. Raises :class:`StageError` where nothing is left, a
    level has no row at all, or ``config.traces`` lacks what was compressed.
    """
    main = _main_sources(config, lost)
    return main + _others(config, {source.problem_id for source in main})


def _main_sources(config: MixConfig, lost: Counter[str]) -> list[Source]:
    wanted = _wanted(config)
    if config.compressed is None:
        assert config.traces is not None
        return _whole_sources(config.traces, wanted)[: config.limit]
    texts: dict[str, dict[float, str]] = {}
    first: dict[str, CompressedTrace] = {}
    for row in read_rows(config.compressed, CompressedTrace):
        if wanted(row):
            key = f"{row.problem_id}/{row.sample}"
            first.setdefault(key, row)
            texts.setdefault(key, {})[row.target] = row.text
    whole = _whole_traces(config, texts)
    if not texts:
        raise StageError(
            f"{config.compressed}: holds no trace of splits {', '.join(config.splits)}"
        )
    if absent := [key for key in sorted(texts) if key not in whole]:
        if config.traces is not None or len(absent) == len(texts):
            raise StageError(_absent(config, absent, len(texts)))
        lost["no row at 1.0"] += len(absent)
    keys = [key for key in sorted(texts) if key in whole][: config.limit]
    for key in keys:
        texts[key][1.0] = whole[key]
    _check_levels(config, [texts[key] for key in keys])
    found = [Source.of(first[key], whole[key], texts[key]) for key in keys]
    return found + _further(config, wanted, texts)


def _absent(config: MixConfig, keys: Sequence[str], count: int) -> str:
    """Which traces there is no whole text of, and what to do."""
    told = f"{', '.join(keys[:NAMED])}{', …' if len(keys) > NAMED else ''}"
    if config.traces is None:
        return (
            f"{config.compressed}: has no row at 1.0 of {len(keys)} of {count} traces ({told}); "
            "set traces to the folder of stage teach that was compressed"
        )
    return (
        f"{config.traces}: lacks {len(keys)} of the {count} traces that {config.compressed} was "
        f"made of ({told}); set traces to that folder of stage teach, or null where 1.0 is among "
        "the ratios of compress, or compress again"
    )


def _further(
    config: MixConfig, wanted: Callable[[SampleRecord], bool], texts: Mapping[str, object]
) -> list[Source]:
    if not config.further_native:
        return []
    compressed = {key.rpartition("/")[0] for key in texts}
    assert config.traces is not None
    whole = _whole_sources(config.traces, wanted)
    found = [source for source in whole if source.problem_id not in compressed]
    if len(found) < config.further_native:
        raise StageError(
            f"{config.traces}: further_native {config.further_native}: only {len(found)} traces "
            "were not compressed"
        )
    return found[: config.further_native]


def _others(config: MixConfig, had: set[str]) -> list[Source]:
    """Whole traces of ``config.also``, without problems that are ``had``."""
    found: list[Source] = []
    for number, one in enumerate(config.also):
        whole = _whole_sources(one.traces, lambda row: row.split in (None, *config.splits))
        new = [source for source in whole if source.problem_id not in had]
        if one.limit is not None and one.limit < len(new):
            random = Random(f"{config.seed} also {number}")
            new = [new[at] for at in sorted(random.sample(range(len(new)), one.limit))]
        found += new
        had = had | {source.problem_id for source in new}
    return found


def _whole_sources(traces: Path, wanted: Callable[[SampleRecord], bool]) -> list[Source]:
    """Every trace with nothing but its whole text."""
    found = [
        Source.of(row, row.reasoning, {})
        for row in read_rows(traces, Trace)
        if row.correct is not False and wanted(row)
    ]
    if not found:
        raise StageError(f"{traces}: holds no trace that is wanted")
    return sorted(found, key=lambda source: (source.problem_id, source.sample))


def policy_targets(config: MixConfig, sources: Sequence[Source], random: Random) -> list[float]:
    """The level to teach for each of ``sources``, 0.0 for one that has none.

    With a reference folder: its r* of the problem, the estimated one by default. Without: levels in
    the given proportions, apportioned and shuffled by ``random``. Raises :class:`StageError` if r*
    is no level of ``prompt.ratios``.
    """
    ratios = config.prompt.ratios
    if config.reference is None:
        levels = apportion(ratios, config.policy.proportions, len(sources))
        random.shuffle(levels)
        return levels
    which, targets = config.policy.needed, dict[str, float]()
    for row in read_rows(config.reference, RStarRow):
        if (needed := row.needed(which)) not in ratios:
            raise StageError(
                f"{config.reference}: r_star {needed:g} of problem {row.problem_id!r} is no "
                f"level; prompt.ratios are {', '.join(f'{ratio:g}' for ratio in ratios)}"
            )
        if row.solved(which) or config.policy.unsolved:
            targets[row.problem_id] = needed
    return [targets.get(source.problem_id, 0.0) for source in sources]


def apportion(levels: Sequence[float], shares: Sequence[float], count: int) -> list[float]:
    """``count`` levels whose numbers are as near to ``shares`` as whole numbers can be.

    >>> apportion((0.2, 1.0), (0.7, 0.3), 3)
    [0.2, 0.2, 1.0]
    """
    exact = [share * count for share in shares]
    numbers = [int(value) for value in exact]
    order = sorted(range(len(levels)), key=lambda i: (numbers[i] - exact[i], i))
    for index in order[: count - sum(numbers)]:
        numbers[index] += 1
    return [level for level, n in zip(levels, numbers, strict=True) for _ in range(n)]


def _wanted(config: MixConfig) -> Callable[[SampleRecord], bool]:
    """Tells rows of the wanted splits. A row that does not say its own split is wanted, unless
    ``config.problems`` says another."""
    allowed = None
    if config.problems is not None:
        rows = read_rows(config.problems, Problem)
        allowed = {row.id for row in rows if row.split in config.splits}

    def wanted(row: SampleRecord) -> bool:
        known = allowed is None or row.problem_id in allowed
        return known and (row.split is None or row.split in config.splits)

    return wanted


def _whole_traces(config: MixConfig, texts: Mapping[str, Mapping[float, str]]) -> dict[str, str]:
    if config.traces is None:
        return {key: by_ratio[1.0] for key, by_ratio in texts.items() if 1.0 in by_ratio}
    return {row.key: row.reasoning for row in read_rows(config.traces, Trace) if row.key in texts}


def _check_levels(config: MixConfig, texts: Sequence[Mapping[float, str]]) -> None:
    there = sorted({ratio for by_ratio in texts for ratio in by_ratio})
    for ratio in config.prompt.ratios:
        if ratio not in there:
            raise StageError(
                f"{config.compressed}: no row of level {ratio:g}; there are "
                f"{', '.join(f'{one:g}' for one in there)}"
            )
