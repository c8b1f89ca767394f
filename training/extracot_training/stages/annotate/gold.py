"""Labels that a trace came with: the generator knows what its answer depends on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from extracot_training.compression.segment import atoms_in
from extracot_training.compression.step_labels import META_KEY, StepLabels
from extracot_training.config.annotate import GoldSettings
from extracot_training.stages.annotate.base import AnnotatorError, Job, KeepLabels


class GoldAnnotator:
    """Keeps the atoms of needed steps that weigh enough. ``scores`` are the atoms' weights."""

    def __init__(self, settings: GoldSettings) -> None:
        self._threshold = settings.threshold

    @property
    def name(self) -> str:
        return f"gold@{self._threshold:g}"

    def annotate(self, jobs: Sequence[Job]) -> Iterator[KeepLabels]:
        """Raises :class:`AnnotatorError` for a trace without labels, or with those of another."""
        for job in jobs:
            labels = step_labels(job)
            weights = [0.0] * len(job.atoms)
            for weight in sorted({atom.weight for atom in labels.atoms}):
                spans = [(atom.start, atom.end) for atom in labels.atoms if atom.weight == weight]
                for index in atoms_in(job.atoms, spans):
                    weights[index] = weight
            keep = tuple(i for i, weight in enumerate(weights) if weight >= self._threshold)
            yield KeepLabels(keep, tuple(weights))


def step_labels(job: Job) -> StepLabels:
    """The labels of a trace. Raises :class:`AnnotatorError`."""
    trace = job.trace
    try:
        labels = StepLabels.of(trace.meta, trace.reasoning)
    except ValueError as error:
        raise AnnotatorError(f"trace {trace.key}: {error}") from error
    if labels is None:
        raise AnnotatorError(
            f"trace {trace.key}: annotator gold wants meta.{META_KEY}, which problems of kind "
            "`reasoning` bring along through teach (source: own)"
        )
    return labels
