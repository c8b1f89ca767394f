"""Word problems of one to four relations, each told in many people's words.

``bank`` holds the wordings (``wording/*.txt``) and makes verbs agree, ``problem`` the calculations
of one problem, ``stock`` and ``trade`` what problems are about, ``telling`` writes question and
solution, ``make`` draws. Where families tell a kind of story well, these tell it in many ways.
"""

from extracot_training.synthetic.relations.make import (
    SCENES,
    Relations,
    RelationsError,
    RelationsProblem,
)

__all__ = ["SCENES", "Relations", "RelationsError", "RelationsProblem"]
