"""Reader of our generator of word problems; its rows are marked synthetic."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import fields
from itertools import count
from pathlib import Path

from extracot_training.config.messages import near_miss
from extracot_training.config.problems import GeneratorSource
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.records import Problem, read_rows
from extracot_training.stages.problems.sources.generated import row_of
from extracot_training.synthetic import Generator, WordProblem
from extracot_training.synthetic.arithmetic.written import written_out

SOURCE = "generator"

# When so many problems in a row ask for stories that are known, there are no others.
KNOWN_IN_A_ROW = 2000


def read(source: GeneratorSource) -> Iterator[Problem]:
    """Generated problems. ``meta.final`` is the answer text, ``meta.terse`` the bare equations.

    With ``unlike`` there are ``size`` problems still, and the stories that each asks for are told
    by no row of those folders, names of persons aside. Raises :class:`ConfigError` for unknown or
    unusable families, :class:`StageError` where ``unlike`` has no stories or leaves none over.
    """
    shared = {field.name for field in fields(Generator)}
    generator = Generator(**source.model_dump(include=shared))
    used = [family.name for family in generator.chosen()]
    for name in source.heldout:
        if name not in used:
            raise ConfigError(f"held-out family {name!r} is not generated{near_miss(name, used)}")
    if not source.unlike:
        return (_row(source, made) for made in generator.make(source.size))
    known = frozenset(story for folder in source.unlike for story in _stories(folder))
    return (_row(source, made) for made in _new(generator, source.size, known))


def _stories(folder: Path) -> Iterator[str]:
    for row in read_rows(folder, Problem):
        told = row.meta.get("stories")
        if not told:
            raise StageError(f"unlike: {folder} has problems without stories; make them again")
        yield from told


def _new(generator: Generator, size: int, known: Set[str]) -> Iterator[WordProblem]:
    """The first ``size`` problems of whose asked stories none is known."""
    found = skipped = 0
    for index in count():
        if found == size:
            return
        made = generator.problem(index)
        if known.isdisjoint(made.stories[: len(made.families)]):
            found, skipped = found + 1, 0
            yield made
        elif (skipped := skipped + 1) == KNOWN_IN_A_ROW:
            raise StageError(f"unlike: {skipped} stories in a row are known; {found} were not")


def _written(source: GeneratorSource, text: str) -> str:
    return written_out(text, always=source.two_digits) if source.written_out else text


def _row(source: GeneratorSource, made: WordProblem) -> Problem:
    held_out = not set(source.heldout).isdisjoint(made.families)
    told = {"verbose": made.trace, "brief": made.brief, "terse": made.terse}[source.trace]
    return row_of(
        SOURCE,
        source,
        made,
        family=made.family,
        steps=made.steps,
        solution=_written(source, told),
        held_out=held_out,
        meta={
            "final": made.brief_final if source.trace == "brief" else made.final,
            "terse": _written(source, made.terse),
            "max_number": source.max_number,
            "threads": source.threads,
            "stories": list(made.stories),
            **({"asked": len(made.families)} if source.threads > 1 else {}),
        },
    )
