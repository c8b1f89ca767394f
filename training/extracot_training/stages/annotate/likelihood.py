"""The ``likelihood`` annotator: an atom matters as much as the answer's log-likelihood under a
frozen reader drops when the atom is left out. No labels are paid for.

A trace says the same thing several times, so leaving out one atom may cost nothing although its
content matters: ``contexts`` thinned copies of the trace make the others scarce. Batched by the
reader. It knows the reader only as something that rates answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from extracot_training.compression.final_answer import final_atoms, redact
from extracot_training.compression.segment import Kind, join
from extracot_training.config.annotate import LikelihoodSettings
from extracot_training.pipeline.statistics import means_at
from extracot_training.stages.annotate.base import Job, KeepLabels


class Rates(Protocol):
    """What is needed of a reader (``compression.answering.Reader`` has it)."""

    def log_likelihoods(
        self, questions: Sequence[str], traces: Sequence[str], answers: Sequence[str]
    ) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class LikelihoodAnnotator:
    """See the module. Keeps the best ``keep_rate`` of atoms whose absence costs anything."""

    reader: Rates
    settings: LikelihoodSettings

    @property
    def name(self) -> str:
        return f"likelihood:{self.settings.reader}"

    def annotate(self, jobs: Sequence[Job]) -> Iterator[KeepLabels]:
        for job in jobs:
            scores = self._scores(job)
            wanted = round(self.settings.keep_rate * len(scores))
            best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:wanted]
            keep = {i for i in best if scores[i] > 0}
            keep |= set(final_atoms(job.atoms, job.trace.gold))
            yield KeepLabels(tuple(sorted(keep)), tuple(scores))

    def _scores(self, job: Job) -> list[float]:
        settings, gold = self.settings, job.trace.gold
        found: list[tuple[int, float]] = []
        for context in range(settings.contexts):
            rng = Random(f"{settings.seed}:{job.trace.key}:{context}")
            there = [
                i
                for i in range(len(job.atoms))
                if settings.thin == 0 or context == 0 or rng.random() >= settings.thin
            ]
            solid = [i for i in there if job.atoms[i].kind is not Kind.SPACE]
            if not solid:
                continue
            texts = [self._text(job, there)]
            texts += [self._text(job, [j for j in there if j != i]) for i in solid]
            whole, *rated = self.reader.log_likelihoods(
                [job.trace.question] * len(texts), texts, [gold] * len(texts)
            )
            found += ((i, whole - without) for i, without in zip(solid, rated, strict=True))
        return means_at(len(job.atoms), found, 0.0)

    def _text(self, job: Job, kept: Sequence[int]) -> str:
        text = join(job.atoms, kept)
        return redact(text, job.trace.gold) if self.settings.redact else text
