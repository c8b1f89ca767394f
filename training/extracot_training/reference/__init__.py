"""Stage ``reference``: what each problem needs of the model, and how well each level does."""

from extracot_training.reference.stage import run

__all__ = ["run"]
