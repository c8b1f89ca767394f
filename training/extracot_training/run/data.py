"""What a file of problems holds, read before anything is spent: rows, faults, lengths, splits.

Read by the very functions of stage ``problems``, so that it says what that will say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extracot_training.config.load import load_config
from extracot_training.config.problems import ProblemsConfig, Splits
from extracot_training.errors import ConfigError, RowError, StageError
from extracot_training.pipeline.files import sha256_of
from extracot_training.pipeline.records import Problem
from extracot_training.pipeline.settings import SEEDS
from extracot_training.run.options import AUTO, OWN, VLLM, RunOptions
from extracot_training.stages.problems.contamination import check, deduplicate
from extracot_training.stages.problems.sources import NOWHERE, read_source
from extracot_training.stages.problems.stage import assign_split

# Per token of worked mathematics, where most tokenizers make a token of every digit: 2.8 of the
# problems in docs/experiments.md.
CHARACTERS = 2.8
FEW = 30  # problems; with fewer none are set apart for the report alone
_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Data:
    """Problems that are left, of ``rows`` read. Tokens are estimated by characters; ``longest`` is
    of a whole trace with its answer."""

    rows: int
    problems: int
    splits: Splits
    sizes: dict[str, int]
    sha256: str
    prompt: float
    trace: float
    longest: float
    solutions: int
    skipped: tuple[str, ...] = ()

    @property
    def judged(self) -> str:
        """The split that the report is made on."""
        return "test" if self.splits.test else "dev"


def read_data(options: RunOptions) -> Data:
    """Raises :class:`StageError` or :class:`RowError`: one line with the row and the remedy."""
    skipped: list[str] = []
    path = options.problems
    if not path.is_file():
        why = "is a folder; want a file of problems in it" if path.is_dir() else "no such file"
        raise StageError(f"--problems {path}: {why}")
    config = _settings(options, Splits())
    try:
        rows, placed = _read(config, skipped)
        unique = deduplicate(rows, config.conflicts).rows
    except RowError as error:
        if f"is missing{NOWHERE}" in str(error):
            raise StageError(f"{error}; correct that key in --fields, or leave it out") from error
        rather = "name its key in --fields, " if "is missing" in str(error) else ""
        raise StageError(f"{error}; {rather}correct that row, or pass --bad-rows skip") from error
    except StageError as error:
        raise StageError(str(error).replace("set conflicts to", "pass --conflicts")) from error
    if not rows:
        why = f"all {len(skipped)} rows are bad, such as {skipped[0]}" if skipped else "no rows"
        remedy = (
            "correct them, or name other keys in --fields" if skipped else "want a problem a row"
        )
        raise StageError(f"--problems {path}: {why}; {remedy}")
    unique = check(unique, config.contamination).rows
    if len(unique) < 2:
        raise StageError(
            f"--problems {path}: {len(unique)} problem is left of {len(rows)} rows; want two or "
            "more, to train on some and measure on others"
        )
    splits = _settings(options, _divide(unique, placed, options.seed)).splits
    sizes = _sizes(unique, placed, splits)
    solved = [row.solution for row in unique if row.solution]
    return Data(
        rows=len(rows) + len(skipped), problems=len(unique), splits=splits, sizes=sizes,
        sha256=sha256_of(path), prompt=_mean([row.question for row in unique]),
        trace=_mean(solved), longest=max((len(one) for one in solved), default=0) / CHARACTERS,
        solutions=len(solved), skipped=tuple(skipped),
    )  # fmt: skip


def teacher_of(options: RunOptions, data: Data) -> str:
    """``own``, ``vllm`` or an address. Raises :class:`StageError` where there can be no trace."""
    if options.teacher == OWN and not data.solutions:
        raise StageError(
            "--teacher own: no row has a solution; name its key in --fields, as solution=cot"
        )
    if options.teacher != AUTO:
        return options.teacher
    if data.solutions:
        return OWN
    if options.model.startswith("bundled:"):
        raise StageError(
            f"no row has a solution, and vLLM cannot load {options.model} to reason for itself; "
            "name the solutions' key in --fields, as solution=cot, or pass --teacher ADDRESS"
        )
    return VLLM


def source_settings(options: RunOptions, path: Path) -> dict[str, object]:
    """The one source of stage ``problems``."""
    return {
        "kind": "jsonl", "path": str(path), "name": "own", "license": options.data_license,
        "fields": options.fields.model_dump(exclude_none=True), "bad_rows": options.bad_rows,
    }  # fmt: skip


def _settings(options: RunOptions, splits: Splits) -> ProblemsConfig:
    """Stage ``problems`` with these splits, as ``--set`` leaves it. Raises :class:`ConfigError`."""
    given = (text.partition(".") for text in options.set)
    changes = [rest for stage, _, rest in given if stage == "problems" and rest]
    plain = {
        "sources": [source_settings(options, options.problems)], "out": str(options.out),
        "conflicts": options.conflicts, "splits": splits.model_dump(),
    }  # fmt: skip
    try:
        return load_config(ProblemsConfig, None, changes, under=plain)
    except ConfigError as error:
        raise ConfigError(f"problems: {error}", key=error.key) from error


def _read(config: ProblemsConfig, skipped: list[str]) -> tuple[list[Problem], set[str]]:
    """All rows, and the ids of those whose split is given."""
    rows: list[Problem] = []
    placed: set[str] = set()
    for source in config.sources:
        found = list(read_source(source, skipped))
        rows += found
        placed |= {one.id for one in found if source.split is not None or one.split != "train"}
    return rows, placed


def _sizes(rows: Sequence[Problem], placed: set[str], splits: Splits) -> dict[str, int]:
    sizes = Counter(row.split if row.id in placed else assign_split(row.id, splits) for row in rows)
    return {name: sizes[name] for name in ("train", "dev", "test")}


def _divide(rows: Sequence[Problem], placed: set[str], seed: int) -> Splits:
    """Splits with a problem in each: the first seed from ``seed`` on that gives about the shares.

    Raises :class:`StageError` where none does.
    """
    count = len(rows)
    share = min(0.1, 500 / count)
    dev, test = (share, share) if count >= FEW else (max(0.2, 1 / count), 0.0)
    least, most = max(1, int(0.75 * dev * count)), 1.5 * dev * count + 1
    for own in range(seed, seed + _SEEDS):
        splits = Splits(seed=own % SEEDS, dev=round(dev, 4), test=round(test, 4))
        sizes = _sizes(rows, placed, splits)
        held = [sizes["dev"], *([sizes["test"]] if test else [])]
        enough = all(least <= size <= most for size in held)
        if enough and sizes["train"] >= max(1, 0.9 * (1 - dev - test) * count):
            return splits
    raise StageError(f"{count} problems cannot be divided for training and measuring")


def _mean(texts: Sequence[str]) -> float:
    return sum(map(len, texts)) / len(texts) / CHARACTERS if texts else 0.0
