"""Which steps of a trace depend on which: by value, by symbol, from the answer back.

A step that uses a value or a name refers to the latest earlier step that defines it and isn't taken
back. From the steps that state the answer the graph is walked backwards. Small numbers recur by
chance, so an edge weighs the less the more steps state its value. Pure: readings in, edges out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from extracot_training.compression.reading import StepReading

# What a hop away from the answer is worth, and the least an edge weighs.
_HOP = 0.92
_LEAST = 0.15


@dataclass(frozen=True, slots=True)
class Edge:
    """A use at a later step refers to ``source`` by ``key``, a value or a name; ``weight`` is in
    (0, 1]."""

    source: int
    weight: float
    key: str


@dataclass(frozen=True, slots=True)
class Dependencies:
    """For each step: ``edges`` to the earlier ones it refers to; ``reach`` in [0, 1], how much of
    the answer hangs on it; ``hops`` from the answer (``None``: none leads there); ``repeats``: the
    earlier step that says all of it; ``overruled``: later steps that give one of its names another
    value."""

    edges: tuple[tuple[Edge, ...], ...]
    reach: tuple[float, ...]
    hops: tuple[int | None, ...]
    repeats: tuple[int | None, ...]
    overruled: tuple[tuple[int, ...], ...]


def dependencies(
    readings: Sequence[StepReading],
    asked: Collection[str],
    answers: Iterable[int],
    revoked: Collection[int] = (),
) -> Dependencies:
    """``asked``: values that the question states; ``answers``: steps that state the answer;
    ``revoked``: steps that nothing refers to any more."""
    edges = _edges(readings, frozenset(asked), frozenset(revoked))
    reach, hops = _walk(edges, answers)
    return Dependencies(edges, reach, hops, _repeats(readings), _overruled(readings))


def _edges(
    readings: Sequence[StepReading], asked: frozenset[str], revoked: frozenset[int]
) -> tuple[tuple[Edge, ...], ...]:
    spread = Counter(key for reading in readings for key in reading.values)
    maker: dict[str, int] = {}
    named: dict[str, int] = {}
    related: dict[str, int] = {}
    found = []
    for index, reading in enumerate(readings):
        best: dict[int, Edge] = {}
        for key in reading.values:
            if (source := maker.get(key)) is not None:
                _put(best, Edge(source, _worth(key, spread[key], key in asked), key))
        for name in reading.names:
            if (source := named.get(name)) is not None:
                _put(best, Edge(source, 0.6 if len(name) == 1 else 0.8, name))
            if (source := related.get(name)) is not None:
                _put(best, Edge(source, 0.45, name))
        found.append(tuple(sorted(best.values(), key=lambda edge: edge.source)))
        if index in revoked:
            continue
        new = {key for key in reading.uses if key not in maker and key not in asked}
        maker |= dict.fromkeys(reading.results | new, index)
        named |= {name: index for name, _ in reading.defines}
        if reading.relations:
            related |= dict.fromkeys(reading.names, index)
    return tuple(found)


def _put(best: dict[int, Edge], edge: Edge) -> None:
    known = best.get(edge.source)
    if known is None or known.weight < edge.weight:
        best[edge.source] = edge


def _worth(key: str, spread: int, asked: bool) -> float:
    """How telling it is that two steps share this value."""
    try:
        number = Fraction(key)
        common = number.denominator == 1 and abs(number) <= 3
        small = number.denominator == 1 and abs(number) <= 12
    except ValueError:
        common = small = False
    weight = 0.25 if common else 0.7 if small else 1.0
    weight *= 0.5 if asked else 1.0
    return float(max(_LEAST, weight * min(1.0, math.sqrt(4 / max(1, spread)))))


def _walk(
    edges: Sequence[Sequence[Edge]], answers: Iterable[int]
) -> tuple[tuple[float, ...], tuple[int | None, ...]]:
    reach = [0.0] * len(edges)
    hops: list[int | None] = [None] * len(edges)
    for index in answers:
        reach[index], hops[index] = 1.0, 0
    for index in range(len(edges) - 1, -1, -1):
        steps = hops[index]
        if steps is None:
            continue
        for edge in edges[index]:
            reach[edge.source] = max(reach[edge.source], reach[index] * edge.weight * _HOP)
            known = hops[edge.source]
            hops[edge.source] = steps + 1 if known is None else min(known, steps + 1)
    return tuple(reach), tuple(hops)


def _facts(reading: StepReading) -> frozenset[str]:
    return (
        frozenset(f"{name}={value}" for name, value in reading.defines)
        | reading.results
        | reading.relations
    )


def _repeats(readings: Sequence[StepReading]) -> tuple[int | None, ...]:
    """The earliest step that states all facts of a later one (which must state some)."""
    facts = [_facts(reading) for reading in readings]
    holders: dict[str, list[int]] = {}
    found: list[int | None] = []
    for index, own in enumerate(facts):
        common: set[int] | None = None
        for fact in own:
            there = set(holders.get(fact, ()))
            common = there if common is None else common & there
        found.append(min(common) if common else None)
        for fact in own:
            holders.setdefault(fact, []).append(index)
    return tuple(found)


def _overruled(readings: Sequence[StepReading]) -> tuple[tuple[int, ...], ...]:
    """Later steps that give one of a step's names another plain value."""
    later: dict[str, list[tuple[int, str]]] = {}
    found: list[tuple[int, ...]] = [()] * len(readings)
    for index in range(len(readings) - 1, -1, -1):
        values: dict[str, set[str]] = {}
        for name, value in readings[index].defines:
            if value and value[0] in "-0123456789√":
                values.setdefault(name, set()).add(value)
        against = {
            at
            for name, own in values.items()
            for at, value in later.get(name, ())
            if value not in own
        }
        found[index] = tuple(sorted(against))
        for name, own in values.items():
            later.setdefault(name, []).extend((index, value) for value in own)
    return tuple(found)
