"""Reader of our generator of long reasoning: traces that take things back, with gold labels."""

from __future__ import annotations

from collections.abc import Iterator

from extracot_training.compression.step_labels import META_KEY
from extracot_training.config.messages import near_miss
from extracot_training.config.problems import ReasoningSource
from extracot_training.errors import ConfigError
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.generated import row_of
from extracot_training.synthetic.reasoning import (
    MOVES,
    ReasoningGenerator,
    ReasoningProblem,
    Telling,
)

SOURCE = "reasoning"


def read(source: ReasoningSource) -> Iterator[Problem]:
    """Generated problems; ``solution`` is the trace and ``meta.step_labels`` its labels.

    Raises :class:`ConfigError` for unknown kinds and moves.
    """
    for move in source.moves:
        if move not in MOVES:
            raise ConfigError(f"moves: there is no move {move!r}{near_miss(move, list(MOVES))}")
    moves = dict(MOVES) | source.moves
    if not any(moves.values()):
        raise ConfigError("moves: at least one needs a weight above 0")
    telling = Telling(source.length, source.needed, source.slips, source.late, moves)
    generator = ReasoningGenerator(source.seed, source.kinds, telling)
    used = generator.chosen()
    for name in source.heldout:
        if name not in used:
            raise ConfigError(f"held-out kind {name!r} is not generated{near_miss(name, used)}")
    return (_row(source, made) for made in generator.make(source.size))


def _row(source: ReasoningSource, made: ReasoningProblem) -> Problem:
    held_out = not {made.kind, *made.parts}.isdisjoint(source.heldout)
    return row_of(
        SOURCE,
        source,
        made,
        family=made.kind,
        steps=len(made.labels.needs),
        held_out=held_out,
        meta={META_KEY: made.labels.model_dump(mode="json")},
    )
