"""Seeded word problems of our own, each with a verbose trace that is right by construction.

``story`` holds quantities and checked arithmetic, ``families`` the problems, ``narrate`` and
``phrases`` the telling, ``make`` the seeded drawing. Everything made here is synthetic and says so
in the rows that :mod:`extracot_training.sources.synthetic` makes of it.
"""

from extracot_training.generator.families import FAMILIES
from extracot_training.generator.make import Generator, GeneratorError, WordProblem, digest

__all__ = ["FAMILIES", "Generator", "GeneratorError", "WordProblem", "digest"]
