"""Word problem families, all written for this project. Importing this package registers them."""

from extracot_training.synthetic.families import making, money, motion, people, places
from extracot_training.synthetic.families.registry import FAMILIES, Family

__all__ = ["FAMILIES", "Family", "making", "money", "motion", "people", "places"]
