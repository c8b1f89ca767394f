"""The sentences of a trace as they are told, and putting them together as a text with labels.

A sentence knows what it is for, which facts it states and which earlier sentences it uses or takes
back; positions come only here, when the text is there. The steps of the text are then exactly the
sentences: what a sentence begins and ends with is chosen so that the cutter agrees. This module
does not know problems or wordings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from extracot_training.compression.step_labels import AtomLabel, Role, StepLabel, StepLabels
from extracot_training.compression.steps import steps
from extracot_training.synthetic.reasoning.markup import Rendered, capitalised, render

_END = re.compile(r"[.!?][\"')\]]*$")
_TOKEN = re.compile(r"[A-Za-z]+|\d|[^\w\s]")
# Put before a sentence that would begin with a small letter (an "x = 3"): no step begins there.
_FRONT = ("So ", "Then ", "Thus ", "And ", "Now ")


@dataclass(slots=True, eq=False)
class Sentence:
    """``groups`` and ``misstates`` are keys of facts. ``after`` is the white space behind it."""

    markup: str
    role: Role
    groups: tuple[str, ...] = ()
    misstates: tuple[str, ...] = ()
    refers: list[Sentence] = field(default_factory=list)
    revokes: list[Sentence] = field(default_factory=list)
    after: str = " "


@dataclass(frozen=True, slots=True)
class Paragraphs:
    """``chance``: of a paragraph's end between sentences. ``lines``: each sentence on its own."""

    chance: float
    lines: bool = False
    blank: bool = True

    @staticmethod
    def draw(rng: Random) -> Paragraphs:
        kind = rng.random()
        if kind < 0.08:
            return Paragraphs(0.25, lines=True)
        if kind < 0.3:
            return Paragraphs(rng.uniform(0.0, 0.04))
        return Paragraphs(rng.uniform(0.08, 0.4), blank=rng.random() < 0.8)


def tokens(text: str) -> int:
    """About how many tokens a language model's tokenizer makes of it: words, digits and signs."""
    return len(_TOKEN.findall(text))


def assemble(
    sentences: Sequence[Sentence], notation: Callable[[str], str], rng: Random,
    paragraphs: Paragraphs, needs: Sequence[str],
) -> tuple[str, StepLabels]:  # fmt: skip
    """The text and its labels; facts are numbered in the order of ``needs``, then as they come."""
    numbers = {key: number for number, key in enumerate(needs)}
    for sentence in sentences:
        for key in (*sentence.groups, *sentence.misstates):
            numbers.setdefault(key, len(numbers))
    index = {id(sentence): number for number, sentence in enumerate(sentences)}
    text = ""
    labels: list[StepLabel] = []
    atoms: list[AtomLabel] = []
    protected: list[tuple[int, int]] = []
    for number, sentence in enumerate(sentences):
        start, last = len(text), number + 1 == len(sentences)
        rendered = render(capitalised(sentence.markup), notation)
        if sentence.after == " ":
            rendered = _ended(rendered)
        front = _front(text, rendered.text, rng)
        shift = start + len(front)
        text += front + rendered.text
        if not last:
            text += _space(sentence, rng, paragraphs)
        if sentence.role == "needed":
            atoms += [AtomLabel(start=a + shift, end=b + shift, weight=w)
                      for a, b, w in rendered.atoms]  # fmt: skip
            protected += [(a + shift, b + shift) for a, b in rendered.protected]
        labels.append(
            StepLabel(
                start=start,
                end=len(text),
                role=sentence.role,
                groups=_numbered(sentence.groups, numbers),
                misstates=_numbered(sentence.misstates, numbers),
                refers=_indices(sentence.refers, index, number),
                revokes=_indices(sentence.revokes, index, number),
            )
        )
    made = StepLabels(
        steps=tuple(labels),
        needs=tuple(numbers[key] for key in needs),
        atoms=tuple(atoms),
        protected=tuple(protected),
    )
    if [(step.start, step.end) for step in made.steps] != steps(text):
        raise AssertionError(f"sentences are cut otherwise: {_first_misfit(made, text)!r}")
    return text, made


def _numbered(keys: Sequence[str], numbers: dict[str, int]) -> tuple[int, ...]:
    return tuple(sorted({numbers[key] for key in keys}))


def _indices(others: Sequence[Sentence], index: dict[int, int], own: int) -> tuple[int, ...]:
    found = {index[id(other)] for other in others if id(other) in index}
    return tuple(sorted(number for number in found if number < own))


def _ended(rendered: Rendered) -> Rendered:
    """With a full stop, unless it ends already or with mathematics set apart."""
    text = rendered.text.rstrip()
    if text.endswith((":", "\\]", "\n")) or _END.search(text):
        return Rendered(text, rendered.atoms, rendered.protected)
    return Rendered(text + ".", rendered.atoms, rendered.protected)


def _front(before: str, text: str, rng: Random) -> str:
    if before and not before.endswith("\n") and text[:1].islower():
        return rng.choice(_FRONT)
    return ""


def _space(sentence: Sentence, rng: Random, paragraphs: Paragraphs) -> str:
    if sentence.after != " ":
        return sentence.after
    # Nothing but a line break ends a sentence behind a colon or a formula set apart.
    if sentence.markup.rstrip().endswith(":") or "$!" in sentence.markup:
        return "\n"
    if rng.random() < paragraphs.chance:
        return "\n\n" if paragraphs.blank else "\n"
    return "\n" if paragraphs.lines else " "


def _first_misfit(labels: StepLabels, text: str) -> str:
    for label, cut in zip(labels.steps, steps(text), strict=False):
        if (label.start, label.end) != cut:
            return text[label.start : max(label.end, cut[1])]
    return text[-80:]
