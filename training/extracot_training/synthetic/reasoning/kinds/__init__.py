"""Kinds of reasoning problems; importing this package registers all of them."""

from extracot_training.synthetic.reasoning.kinds import (
    algebra,
    chances,
    coordinates,
    counting,
    geometry,
    mixing,
    numbers,
    rates,
    sequences,
    stories,
    systems,
)
from extracot_training.synthetic.reasoning.kinds.registry import KINDS, Kind

__all__ = [
    "KINDS",
    "Kind",
    "algebra",
    "chances",
    "coordinates",
    "counting",
    "geometry",
    "mixing",
    "numbers",
    "rates",
    "sequences",
    "stories",
    "systems",
]
