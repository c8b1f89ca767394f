"""Runs an annotator over a folder of traces. Knows annotators by their settings only."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from extracot_training.compression.segment import Kind, atoms_in, segment, spans_of
from extracot_training.config.annotate import (
    AnnotateConfig,
    GoldSettings,
    LikelihoodSettings,
    LlmSettings,
)
from extracot_training.errors import StageError
from extracot_training.pipeline.markdown import counts, number, table
from extracot_training.pipeline.records import Annotation, JsonlWriter, Trace, read_rows, rows_file
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, lost, run_stage
from extracot_training.pipeline.statistics import percentile
from extracot_training.policy.model_inputs import model_inputs
from extracot_training.stages.annotate.base import Annotator, Job, KeepLabels, Usage
from extracot_training.stages.annotate.gold import GoldAnnotator
from extracot_training.stages.annotate.rules import RulesAnnotator


def run(config: AnnotateConfig, *, force: bool = False) -> StageResult:
    """Stage ``annotate``."""
    inputs = {"traces": rows_file(config.input)}
    inputs |= {f"compare{i}": rows_file(path) for i, path in enumerate(config.compare)}
    if isinstance(config.annotator, LikelihoodSettings):
        inputs |= model_inputs(config.annotator.reader, "reader")
    return run_stage("annotate", config, inputs, lambda stage: _work(config, stage), force=force)


def make_annotator(config: AnnotateConfig) -> Annotator:
    """The annotator that the settings name; heavy imports happen only for those that need them."""
    settings = config.annotator
    if isinstance(settings, LlmSettings):
        from extracot_training.stages.annotate.llm import LlmAnnotator, ReplyCache

        return LlmAnnotator(settings, ReplyCache(settings.cache or config.out / "cache"))
    if isinstance(settings, LikelihoodSettings):
        from extracot_training.compression.answering import Reader
        from extracot_training.stages.annotate.likelihood import LikelihoodAnnotator

        reader = Reader.load(settings.reader, device=settings.device, dtype=settings.dtype)
        return LikelihoodAnnotator(reader, settings)
    if isinstance(settings, GoldSettings):
        return GoldAnnotator(settings)
    return RulesAnnotator(settings.context)


def _work(config: AnnotateConfig, stage: StageRun) -> Counts:
    annotator = make_annotator(config)
    skipped = {"wrong": 0, "empty": 0, "keep_rate": 0}
    with JsonlWriter(stage.rows, Annotation) as writer:
        done = writer.done_keys()
        jobs = _jobs(config, done, skipped)
        while batch := list(islice(jobs, config.batch)):
            for job, labels in zip(batch, annotator.annotate(batch), strict=True):
                row = _row(job, labels, annotator.name)
                low, high = config.keep_rate
                if low <= _keep_rate(row) <= high:
                    writer.write(row)
                else:
                    skipped["keep_rate"] += 1
    rows = list(read_rows(stage.rows, Annotation))
    if not rows:
        raise StageError(f"{config.input}: no trace was annotated; left out: {counts(skipped)}")
    compared = {str(path): agreement(rows, read_rows(path, Annotation)) for path in config.compare}
    usage = sum((Usage(**row.usage) for row in rows), Usage())
    figures: dict[str, Any] = {
        "annotator": annotator.name,
        "rows": len(rows),
        "left_out": skipped,
        "keep_rate": _summary([_keep_rate(row) for row in rows]),
        "usage": asdict(usage),
        "agreement": {
            name: {**asdict(found), "kappa": found.kappa, "f1": found.f1}
            for name, found in compared.items()
        },
    }
    stage.report(_report(figures, compared), figures)
    counted = {f"left_out_{why}": n for why, n in skipped.items()}
    return {"rows": len(rows), **counted, **lost(skipped)}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two annotators agree: atoms by what the two said of them."""

    both: int = 0
    first_only: int = 0
    second_only: int = 0
    neither: int = 0
    traces: int = 0

    @property
    def atoms(self) -> int:
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def f1(self) -> float | None:
        """Of "keep", one annotator taken as the truth (it is the same either way)."""
        said = 2 * self.both + self.first_only + self.second_only
        return 2 * self.both / said if said else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; ``None`` where chance agreement is total (both say one thing only).

        >>> Agreement(both=20, first_only=5, second_only=10, neither=15).kappa
        0.4
        """
        total = self.atoms
        if not total:
            return None
        first = (self.both + self.first_only) / total
        second = (self.both + self.second_only) / total
        chance = first * second + (1 - first) * (1 - second)
        if chance == 1:
            return None
        return round(((self.both + self.neither) / total - chance) / (1 - chance), 6)


def agreement(first: Iterable[Annotation], second: Iterable[Annotation]) -> Agreement:
    """Over the traces that both have, matched by key and text."""
    others = {row.key: row for row in second}
    total: Counter[str] = Counter()
    for row in first:
        other = others.get(row.key)
        if other is None or other.reasoning != row.reasoning:
            continue
        atoms = segment(row.reasoning)
        left, right = set(atoms_in(atoms, row.keep)), set(atoms_in(atoms, other.keep))
        solid = {i for i, atom in enumerate(atoms) if atom.kind is not Kind.SPACE}
        total.update(
            both=len(left & right), first_only=len(left - right), second_only=len(right - left),
            neither=len(solid - left - right), traces=1,
        )  # fmt: skip
    return Agreement(**total)


def _jobs(config: AnnotateConfig, done: frozenset[str], skipped: dict[str, int]) -> Iterator[Job]:
    for trace in islice(read_rows(config.input, Trace), config.limit):
        if trace.correct is False:
            skipped["wrong"] += 1
        elif not trace.reasoning.strip():
            skipped["empty"] += 1
        elif trace.key not in done:
            yield Job(trace, segment(trace.reasoning))


def _row(job: Job, labels: KeepLabels, name: str) -> Annotation:
    return Annotation(
        **job.trace.model_dump(include=set(Annotation.model_fields)),
        keep=spans_of(job.atoms, labels.keep),
        annotator=name,
        scores=None if labels.scores is None else [round(score, 6) for score in labels.scores],
        usage={key: value for key, value in asdict(labels.usage).items() if value},
    )


def _keep_rate(row: Annotation) -> float:
    return sum(end - start for start, end in row.keep) / max(1, len(row.reasoning))


def _summary(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    found = {"mean": statistics.fmean(values)}
    found |= {name: percentile(values, share) for name, share in (("p10", 0.1), ("p90", 0.9))}
    return {name: round(value, 4) for name, value in found.items()}


def _report(figures: dict[str, Any], compared: dict[str, Agreement]) -> str:
    lines = [
        "# Annotation",
        "",
        f"Annotator `{figures['annotator']}`: {figures['rows']} traces annotated.",
        f"Left out: {counts(figures['left_out'])}.",
        f"Share of characters kept: {figures['keep_rate']}.",
        f"Usage: {figures['usage']}.",
        "",
    ]
    if compared:
        lines += table(
            "agreement with | traces | atoms | kappa | F1 keep",
            (
                f"{Path(name).name} | {found.traces} | {found.atoms} | {number(found.kappa)} "
                f"| {number(found.f1)}"
                for name, found in compared.items()
            ),
        )
        lines.append("")
    return "\n".join(lines)
