"""Seeded word problems of our own, each with a verbose trace that is right by construction.

``story`` holds quantities and checked arithmetic, ``families`` the problems, ``narrate`` and
``phrases`` the telling, ``interleaved`` several stories told in one trace, ``make`` the seeded
drawing, ``drill`` lists of single calculations. Everything made here is synthetic and says so in
the rows that :mod:`extracot_training.stages.problems.sources` makes of it.
"""

from extracot_training.synthetic.families import FAMILIES
from extracot_training.synthetic.make import Generator, GeneratorError, digest
from extracot_training.synthetic.story import WordProblem

__all__ = ["FAMILIES", "Generator", "GeneratorError", "WordProblem", "digest"]
