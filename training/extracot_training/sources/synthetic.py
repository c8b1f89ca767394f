"""Reader of our own generator: the only rows that are marked synthetic."""

from __future__ import annotations

from collections.abc import Iterator

from extracot_training.config.load import near_miss
from extracot_training.config.problems import GeneratorSource
from extracot_training.errors import ConfigError
from extracot_training.generator import Generator, WordProblem
from extracot_training.normalise import problem_id
from extracot_training.records import Problem

SOURCE = "generator"
LICENSE = "Apache-2.0"


def read(source: GeneratorSource) -> Iterator[Problem]:
    """Generated problems. ``meta.final`` is the answer text, ``meta.terse`` the bare equations.

    Raises :class:`ConfigError` for unknown or unusable families.
    """
    generator = Generator(
        seed=source.seed,
        max_number=source.max_number,
        steps=source.steps,
        families=source.families,
        verbosity=source.verbosity,
        threads=source.threads,
        distinct=source.distinct,
        interleaved=source.interleaved,
    )
    used = [family.name for family in generator.chosen()]
    for name in source.heldout:
        if name not in used:
            raise ConfigError(f"held-out family {name!r} is not generated{near_miss(name, used)}")
    return (_row(source, made) for made in generator.make(source.size))


def _row(source: GeneratorSource, made: WordProblem) -> Problem:
    held_out = made.family in source.heldout
    return Problem(
        id=problem_id(SOURCE, made.question),
        question=made.question,
        answer=str(made.answer),
        solution={"verbose": made.trace, "brief": made.brief, "terse": made.terse}[source.trace],
        source=SOURCE,
        license=LICENSE,
        split="heldout_families" if held_out else source.split or "train",
        family=made.family,
        steps=made.steps,
        synthetic=True,
        meta={
            "seed": source.seed,
            "index": made.index,
            "final": made.brief_final if source.trace == "brief" else made.final,
            "terse": made.terse,
            "max_number": source.max_number,
            "threads": source.threads,
        },
    )
