"""Gold labels of a trace: what each of its steps is for, and which parts of it decide.

Made by whoever told the trace, so they are known and not guessed. Steps are those of
:func:`extracot_training.compression.steps.steps`; all positions are half-open character spans of
the trace. This module does not know who makes labels or who learns from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from extracot_training.compression.steps import steps
from extracot_training.pipeline.records import first_problem

# Key of the labels in a row's ``meta``.
META_KEY = "step_labels"

Role = Literal["needed", "revoked", "check", "repeat", "detour", "narration", "takeback"]
Index = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(gt=0.0, le=1.0)]


class _Labels(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    pass


class StepLabel(_Labels):
    """One step.

    ``role``: needed (of the minimal chain: the first right statement of each fact that the answer
    depends on, and the conclusion), revoked (taken back later and not used again), takeback (takes
    something back and states nothing that is needed), check, repeat (of a fact), detour (true, not
    needed), narration.
    ``groups``: the facts that it states rightly and wholly, by number: any step that states all
    facts of a needed one can stand for it. ``misstates``: the facts that a revoked step gives a
    wrong version of; two steps with the same fact in ``groups`` and ``misstates`` contradict each
    other. ``refers``: earlier steps whose value or symbol it uses. ``revokes``: earlier steps that
    it takes back; a needed step can do so, too ("No, it's 12.").
    """

    start: Index
    end: Index
    role: Role
    groups: tuple[Index, ...] = ()
    misstates: tuple[Index, ...] = ()
    refers: tuple[Index, ...] = ()
    revokes: tuple[Index, ...] = ()


class AtomLabel(_Labels):
    """A part of a needed step and what it weighs: 1.0 formulas, values, relations, and the words of
    negation, condition or quantity that matter; about 0.6 words that name what is computed. The
    rest of a step weighs nothing."""

    start: Index
    end: Index
    weight: Weight


class StepLabels(_Labels):
    """Labels of a whole trace.

    ``needs``: the facts that the answer depends on, each in ``groups`` of at least one needed step.
    ``atoms`` and ``protected`` lie within needed steps, sorted and disjoint; ``protected`` are the
    words of negation, condition and quantity whose loss would change the meaning.
    """

    steps: tuple[StepLabel, ...]
    needs: tuple[Index, ...]
    atoms: tuple[AtomLabel, ...]
    protected: tuple[tuple[Index, Index], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        end = 0
        for number, step in enumerate(self.steps):
            if not step.start == end < step.end:
                raise ValueError(f"step {number} [{step.start}, {step.end}): want [{end}, more)")
            end = step.end
            if late := [i for i in (*step.refers, *step.revokes) if i >= number]:
                raise ValueError(f"step {number} points at {late[0]}, which is not before it")
        needed = [step for step in self.steps if step.role == "needed"]
        if missing := set(self.needs) - {group for step in needed for group in step.groups}:
            raise ValueError(f"fact {min(missing)} is needed, and no needed step states it")
        where = [(step.start, step.end) for step in needed]
        _check_within("atoms", [(atom.start, atom.end) for atom in self.atoms], where)
        _check_within("protected", list(self.protected), where)
        return self

    @classmethod
    def of(cls, meta: Mapping[str, Any], text: str) -> StepLabels | None:
        """The labels of ``text`` in a row's ``meta``, ``None`` where it has none. Raises
        :class:`ValueError` in one line for labels that are broken or another text's."""
        if (found := meta.get(META_KEY)) is None:
            return None
        try:
            labels = cls.model_validate(found)
            labels.check(text)
        except ValidationError as error:
            field, message = first_problem(error)
            raise ValueError(f"meta.{META_KEY}{f'.{field}' if field else ''}: {message}") from error
        except ValueError as error:
            raise ValueError(f"meta.{META_KEY}: {error}") from error
        return labels

    def check(self, text: str) -> None:
        """Raises :class:`ValueError` unless these are labels of this text."""
        if [(step.start, step.end) for step in self.steps] != steps(text):
            raise ValueError("the labels' steps are not those of the text")

    def needed(self) -> list[int]:
        """Indices of the needed steps."""
        return [number for number, step in enumerate(self.steps) if step.role == "needed"]

    def alternatives(self, index: int) -> list[int]:
        """Steps that state all that this one does, itself included: one of them is enough."""
        wanted = set(self.steps[index].groups)
        return [
            number
            for number, step in enumerate(self.steps)
            if number == index or (wanted and wanted <= set(step.groups))
        ]


def _check_within(name: str, spans: list[tuple[int, int]], steps_of: list[tuple[int, int]]) -> None:
    """Spans are sorted, disjoint, not empty, and each within one of ``steps_of`` (sorted)."""
    for left, right in pairwise(spans):
        if right[0] < left[1]:
            raise ValueError(f"{name}: {list(right)} overlaps {list(left)} or is not in order")
    found = iter(steps_of)
    step = next(found, None)
    for start, end in spans:
        while step is not None and step[1] <= start:
            step = next(found, None)
        if step is None or not step[0] <= start < end <= step[1]:
            raise ValueError(f"{name}: [{start}, {end}) is not within one needed step")
