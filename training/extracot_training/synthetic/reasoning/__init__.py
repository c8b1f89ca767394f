"""Long reasoning traces that take things back, with gold labels of what the answer depends on.

``facts`` holds what a problem is made of, ``kinds`` the problems, ``narrator`` and ``moves`` the
telling, ``grammar`` (over ``wording/*.txt``), ``markup`` and ``notation`` the words and signs,
``script`` the text with its labels, ``make`` the seeded drawing.
"""

from extracot_training.synthetic.reasoning.kinds import KINDS
from extracot_training.synthetic.reasoning.make import ReasoningGenerator, ReasoningProblem
from extracot_training.synthetic.reasoning.style import MOVES, Telling

__all__ = ["KINDS", "MOVES", "ReasoningGenerator", "ReasoningProblem", "Telling"]
