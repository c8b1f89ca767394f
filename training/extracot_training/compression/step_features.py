"""What is known of each step without a model: place, words, values, references, takebacks.

The trained compressor reads these beside the encoder's view of the sentence; by themselves, in
:func:`graph_scores`, they are a compressor that has learned nothing. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from extracot.answers import extract_answer
from extracot_training.compression.dependencies import Dependencies, dependencies
from extracot_training.compression.final_answer import final_atoms, likely_final_atoms
from extracot_training.compression.reading import StepReading, question_values, read_step
from extracot_training.compression.structure import Outline
from extracot_training.compression.takebacks import Cue, cues, protected_words
from extracot_training.math_text.values import flat, value_key

_WORDS = re.compile(r"[^\W\d_]{2,}")
# Without a model a takeback's reach: this many steps back at most.
_BACK = 6


@dataclass(frozen=True, slots=True)
class Structure:
    """One trace, read: its steps' readings, cues and graph, and which steps state the answer
    (``answers``, in order; ``final`` is the last of them, the conclusion)."""

    plan: Outline
    texts: tuple[str, ...]
    readings: tuple[StepReading, ...]
    cues: tuple[frozenset[Cue], ...]
    asked: frozenset[str]
    answers: tuple[int, ...]
    final: int | None
    always: tuple[int, ...]
    graph: Dependencies


def structure(question: str, plan: Outline, answer: str | None = None) -> Structure:
    """Reads a trace's steps. Without ``answer`` the last boxed or last stated value counts."""
    texts = plan.texts()
    readings = [read_step([plan.atoms[i] for i in own]) for own in plan.members]
    found = likely_final_atoms(plan.atoms) if answer is None else final_atoms(plan.atoms, answer)
    holder = {atom: step for step, own in enumerate(plan.members) for atom in own}
    final = holder[found[-1]] if found else (len(texts) - 1 if texts else None)
    stated = _answer_keys(answer, plan, found)
    answers = [i for i, one in enumerate(readings) if stated & one.values]
    asked = question_values(question)
    ends = sorted({*([final] if final is not None else []), *answers[-1:]})
    graph = dependencies(readings, asked, ends)
    return Structure(
        plan, tuple(texts), tuple(readings), tuple(cues(text) for text in texts), asked,
        tuple(answers), final, tuple(found), graph,
    )  # fmt: skip


def _answer_keys(answer: str | None, plan: Outline, found: Sequence[int]) -> frozenset[str]:
    text = answer
    if text is None and found:
        body = plan.atoms[found[-1]].body
        text = extract_answer(body) or body.rpartition("=")[2]
    key = value_key(flat(text)) if text else None
    return frozenset([key] if key is not None else [])


NAMES = (
    "place", "from_end", "length", "equations", "results", "uses", "names", "relations", "question",
    "paragraph", "last", "overlap", "asked_values", "new_values", "protected", "wrong", "reach",
    "hops", "near_answer", "refers", "referred", "referred_far", "repeats", "repeated",
    "overruled", "overruled_at_takeback", "overrules", "states_answer", "first_answer",
    "last_answer", "since_takeback", "until_takeback", "takebacks_after", "unused_results",
    *(f"cue_{cue.value}" for cue in Cue), *(f"next_{cue.value}" for cue in Cue),
    *(f"second_next_{cue.value}" for cue in (Cue.TAKEBACK, Cue.DOUBT, Cue.RESTART)),
    *(f"before_{cue.value}" for cue in (Cue.TAKEBACK, Cue.DOUBT, Cue.RESTART, Cue.CHECK)),
)  # fmt: skip


def features(question: str, one: Structure) -> list[list[float]]:
    """A row for each step, of :data:`NAMES`; all about 0 to 1."""
    asking = frozenset(word.lower() for word in _WORDS.findall(question))
    graph, count = one.graph, len(one.texts)
    incoming: list[list[int]] = [[] for _ in range(count)]
    for index, edges in enumerate(graph.edges):
        for edge in edges:
            if edge.weight > 0.3:
                incoming[edge.source].append(index)
    taking = [i for i, found in enumerate(one.cues) if found & {Cue.TAKEBACK, Cue.DOUBT}]
    again = {repeat for repeat in graph.repeats if repeat is not None}
    overruling = {at for found in graph.overruled for at in found}
    seen: set[str] = set()
    rows = []
    for i in range(count):
        reading, words = one.readings[i], [w.lower() for w in _WORDS.findall(one.texts[i])]
        before = [at for at in taking if at <= i]
        after = [at for at in taking if at > i]
        values = reading.values
        late = graph.overruled[i]
        used = {e.key for j in incoming[i] for e in graph.edges[j] if e.source == i}
        row = [
            i / max(1, count - 1), math.exp(-(count - 1 - i) / 3), min(1.5, len(words) / 25),
            min(3, reading.equations) / 3, min(4, len(reading.results)) / 4,
            min(5, len(reading.uses)) / 5, min(4, len(reading.names)) / 4,
            min(3, len(reading.relations)) / 3, float(one.texts[i].rstrip().endswith("?")),
            float(i == 0 or "\n\n" in one.texts[i - 1]), float(i == count - 1),
            len(asking.intersection(words)) / max(1, len(set(words))),
            len(values & one.asked) / max(1, len(values)),
            len(values - seen - one.asked) / max(1, len(values)),
            min(3, len(protected_words(one.texts[i]))) / 3, float(reading.wrong), graph.reach[i],
            1.0 if graph.hops[i] is None else min(8, graph.hops[i] or 0) / 8,
            float(graph.hops[i] is not None), min(5, len(graph.edges[i])) / 5,
            min(5, len(incoming[i])) / 5, float(any(j > i + 5 for j in incoming[i])),
            float(graph.repeats[i] is not None), float(i in again), float(bool(late)),
            float(any(one.cues[j] & {Cue.TAKEBACK, Cue.DOUBT} for j in late)),
            float(i in overruling), float(i in one.answers), float(i in one.answers[:1]),
            float(i == one.final), math.exp(-(i - before[-1]) / 3) if before else 0.0,
            math.exp(-(after[0] - i) / 3) if after else 0.0, min(6, len(after)) / 6,
            float(bool(reading.results) and not reading.results & used),
            *(float(cue in one.cues[i]) for cue in Cue),
            *(float(i + 1 < count and cue in one.cues[i + 1]) for cue in Cue),
            *(float(i + 2 < count and cue in one.cues[i + 2])
              for cue in (Cue.TAKEBACK, Cue.DOUBT, Cue.RESTART)),
            *(float(i > 0 and cue in one.cues[i - 1])
              for cue in (Cue.TAKEBACK, Cue.DOUBT, Cue.RESTART, Cue.CHECK)),
        ]  # fmt: skip
        rows.append(row)
        seen |= values
    return rows


def graph_scores(one: Structure) -> tuple[list[float], list[float]]:
    """How needed and how revoked each step is, by cues and graph alone.

    Revoked: what a takeback corrects by name or value within its reach, and what precedes it to
    the beginning of the paragraph. Needed: reach from the answer in the graph without those.
    """
    gone = _taken_back(one)
    graph = dependencies(
        one.readings,
        one.asked,
        {*one.answers[-1:], *([one.final] if one.final is not None else [])},
        {i for i, share in enumerate(gone) if share >= 0.5},
    )
    needed = []
    for i, found in enumerate(one.cues):
        score = graph.reach[i] + 0.1 * bool(one.readings[i].relations)
        score *= 0.4 if Cue.CHECK in found else 0.5 if found & {Cue.TAKEBACK, Cue.DOUBT} else 1.0
        score *= 0.3 if one.texts[i].rstrip().endswith("?") else 1.0
        score *= 0.5 if graph.repeats[i] is not None else 1.0
        needed.append(score)
    return needed, gone


def _taken_back(one: Structure) -> list[float]:
    gone = [0.0] * len(one.texts)
    for at, found in enumerate(one.cues):
        if not found & {Cue.TAKEBACK, Cue.DOUBT} or Cue.CONFIRMED in found:
            continue
        strength = 0.7 if Cue.TAKEBACK in found else 0.5
        for i in range(at - 1, max(-1, at - _BACK), -1):
            if one.cues[i] & {Cue.TAKEBACK, Cue.DOUBT}:
                break
            gone[i] = max(gone[i], strength * 0.75 ** (at - 1 - i))
    for i, late in enumerate(one.graph.overruled):
        if any(
            one.cues[k] & {Cue.TAKEBACK, Cue.DOUBT} for j in late[:1] for k in range(i + 1, j + 1)
        ):
            gone[i] = max(gone[i], 0.8)
    return gone
