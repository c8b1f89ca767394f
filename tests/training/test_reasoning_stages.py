"""Reasoning with gold labels through the stages: problems, teach, annotate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from extracot_training.compression.segment import atoms_in, segment
from extracot_training.compression.step_labels import META_KEY, StepLabels
from extracot_training.config.annotate import AnnotateConfig, GoldSettings
from extracot_training.config.load import load_config
from extracot_training.config.problems import AnySource, ProblemsConfig, ReasoningSource
from extracot_training.config.teach import TeachConfig
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.records import (
    Annotation,
    Problem,
    Trace,
    read_rows,
    write_rows,
)
from extracot_training.stages.annotate import stage as annotate
from extracot_training.stages.annotate.base import AnnotatorError, Job
from extracot_training.stages.annotate.gold import GoldAnnotator
from extracot_training.stages.problems import stage as problems
from extracot_training.stages.problems.sources import read_source
from extracot_training.stages.teach import stage as teach

CONFIGS = Path(__file__).parents[2] / "training/configs"
SOURCE: TypeAdapter[Any] = TypeAdapter(AnySource)


def read(**changes: object) -> list[Problem]:
    values: dict[str, object] = {"kind": "reasoning", "size": 12, "seed": 4}
    return list(read_source(SOURCE.validate_python(values | changes)))


def labelled(text: str = "", **changes: object) -> Trace:
    row = read(size=1)[0]
    values: dict[str, object] = {
        "problem_id": row.id, "sample": 0, "question": row.question, "answer": row.meta["final"],
        "reasoning": text or row.solution, "gold": row.answer, "teacher": "own:reasoning",
        "meta": {META_KEY: row.meta[META_KEY]},
    }  # fmt: skip
    return Trace.model_validate(values | changes)


def test_labels_go_from_problems_to_annotations(tmp_path: Path) -> None:
    made = ProblemsConfig(
        out=tmp_path / "problems", sources=(ReasoningSource(size=30, seed=3, heldout=("urn",)),)
    )
    problems.run(made)
    rows = list(read_rows(made.out, Problem))
    assert all(row.synthetic for row in rows)
    taught = TeachConfig(
        input=made.out, out=tmp_path / "teach", source="own", samples=1,
        splits=("train", "dev", "test", "heldout_families"),
    )  # fmt: skip
    teach.run(taught)
    traces = list(read_rows(taught.out, Trace))
    assert len(traces) == len(rows), "a trace's own boxed answer contradicts its gold"
    config = AnnotateConfig(
        input=taught.out, out=tmp_path / "gold", annotator=GoldSettings(), keep_rate=(0.0, 0.9)
    )
    annotate.run(config)
    for row in read_rows(config.out, Annotation):
        labels = StepLabels.of(row.meta, row.reasoning)
        assert labels is not None
        atoms = segment(row.reasoning)
        kept = set(atoms_in(atoms, row.keep))
        needed = [(labels.steps[i].start, labels.steps[i].end) for i in labels.needed()]
        assert kept <= set(atoms_in(atoms, needed))
        assert set(atoms_in(atoms, list(labels.protected))) <= kept
        assert row.scores is not None and max(row.scores) == 1.0


def test_held_out_kinds_go_into_their_split() -> None:
    rows = read(size=60, heldout=("urn", "border"))
    for row in rows:
        if row.family in ("urn", "border"):
            assert row.split == "heldout_families"
        elif row.family != "two_parts":
            assert row.split == "train"
    assert {row.split for row in rows} == {"train", "heldout_families"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("urm",)}, "no kind 'urm'.*'urn'"),
        ({"heldout": ("boarder",)}, "held-out kind 'boarder' is not generated.*'border'"),
        ({"kinds": ("urn",), "heldout": ("border",)}, "held-out kind 'border' is not generated"),
        ({"moves": {"hedges": 1}}, "no move 'hedges'.*'hedge'"),
        ({"kinds": ()}, "kinds: the list is empty"),
    ],
)
def test_unknown_names_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"length": (900, 300)}, "length"),
        ({"length": (10, 300)}, "length"),
        ({"needed": (0.5, 0.2)}, "needed"),
        ({"slips": 1.5}, "slips"),
        ({"moves": {"hedge": -1}}, "moves"),
        ({"size": 0}, "size"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        read(**changes)


def test_moves_without_weight_never_come() -> None:
    moves = {
        name: 0.0 for name in ("repeat", "recheck", "summary", "restart", "again", "false_alarm")
    }
    for row in read(size=20, slips=0.0, moves=moves):
        labels = StepLabels.of(row.meta, row.solution or "")
        assert labels is not None
        # Of repeats only that of the conclusion is left.
        assert sum(step.role == "repeat" for step in labels.steps) <= 1


def test_a_trace_without_labels_is_named() -> None:
    trace = labelled(meta={})
    with pytest.raises(AnnotatorError, match=rf"{trace.key}.*wants meta.step_labels"):
        next(GoldAnnotator(GoldSettings()).annotate([Job(trace, segment(trace.reasoning))]))


def test_labels_of_another_text_are_named() -> None:
    trace = labelled("One. Two.")
    with pytest.raises(AnnotatorError, match=r"step_labels: the labels' steps are not those"):
        next(GoldAnnotator(GoldSettings()).annotate([Job(trace, segment(trace.reasoning))]))


def test_broken_labels_are_named_by_teach(tmp_path: Path) -> None:
    row = read(size=1)[0]
    bad = row.model_copy(update={"meta": {**row.meta, META_KEY: {"steps": 3}}})
    write_rows(tmp_path / "rows.jsonl", [bad])
    config = TeachConfig(input=tmp_path, out=tmp_path / "out", source="own", samples=1)
    with pytest.raises(StageError, match=rf"{row.id}: meta.step_labels.steps"):
        teach.run(config)


def test_a_higher_threshold_leaves_out_names() -> None:
    trace = labelled()
    job = Job(trace, segment(trace.reasoning))
    every = next(GoldAnnotator(GoldSettings()).annotate([job]))
    heavy = next(GoldAnnotator(GoldSettings(threshold=0.9)).annotate([job]))
    assert set(heavy.keep) < set(every.keep)


def test_the_shipped_settings_load() -> None:
    made = load_config(ProblemsConfig, CONFIGS / "problems-reasoning.yaml")
    assert made.sources[0].kind == "reasoning"
    assert load_config(AnnotateConfig, CONFIGS / "annotate-gold.yaml").annotator.kind == "gold"
