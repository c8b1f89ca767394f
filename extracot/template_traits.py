"""What a chat template does with reasoning, found out by rendering: its switches, what it keeps.

Nothing is known by a model's name: a variable is a switch if the prompt changes with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from extracot.conversation import Role, ToolCall, Turn
from extracot.errors import PromptError
from extracot.template import ChatTemplate

SwitchValue = bool | int | str
Keeps = Literal["never", "tool_chain", "always"]

# Variables that turn reasoning on and off, with the values that do, the usual ones first.
_ON_OFF: tuple[tuple[str, SwitchValue, SwitchValue], ...] = (
    ("enable_thinking", True, False),
    ("thinking", True, False),
    ("enable_reasoning", True, False),
    ("reasoning", True, False),
    ("thinking_option", "on", "off"),
    ("thinking_mode", "enabled", "disabled"),
    ("thinking_mode", "thinking", "chat"),
    ("thinking_budget", -1, 0),
    ("reasoning_effort", "high", "no_think"),
    ("reasoning_effort", "high", "none"),
)
_EFFORT = ("reasoning_effort", "thinking_effort", "reasoning_strength", "effort")
_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
_ANY_EFFORT = ("low", "medium", "high")
"""What is said of a template that writes whatever effort it is given: gpt-oss's three."""
_BUDGET = ("thinking_budget", "reasoning_budget")
_KEEP = re.compile(
    r"(?:(?:preserve|keep|clear|drop|truncate)\w*|interleaved)_?(?:thinking|reasoning)"
)
_NO_WORD = "qwhatever"


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """What a template's own variables do, and which earlier reasoning it keeps in a prompt.

    ``on`` makes the model reason, and is empty where it does by default; ``off`` is ``None`` where
    the template cannot say that there is no reasoning. ``effort`` and ``budget`` are variables,
    ``""`` if there is none; ``keep`` are those that decide which turns keep their reasoning.
    """

    on: Mapping[str, SwitchValue] = field(default_factory=lambda: MappingProxyType({}))
    off: Mapping[str, SwitchValue] | None = None
    effort: str = ""
    efforts: tuple[str, ...] = ()
    budget: str = ""
    keep: tuple[str, ...] = ()
    keeps_reasoning: Keeps = "never"
    on_off: tuple[str, ...] = ()
    """The variables that the template has for reasoning or not, some of which may be synonyms."""

    @property
    def switches(self) -> tuple[str, ...]:
        """Every variable that a prompt was seen to change with."""
        names = {*self.on_off, *self.keep, self.effort, self.budget} - {""}
        return tuple(sorted(names))


def find_traits(template: ChatTemplate) -> TemplateTraits:
    """The traits of a template; of one that takes no user's message: none."""
    plain = _written(template, {})
    if plain is None:
        return TemplateTraits()
    names = set(re.findall(r"\w+", template.source))
    on_off = _on_off(template, names)
    on: dict[str, SwitchValue] = {}
    off: dict[str, SwitchValue] | None = None
    for name, (yes, no) in list(on_off.items())[:1]:
        on = {} if _written(template, {name: yes}) == plain else {name: yes}
        off = {name: no}
    effort, efforts = _efforts(template, names, on)
    budget = next((name for name in _BUDGET if name in names and _counts(template, name)), "")
    keep = tuple(sorted(name for name in names if _KEEP.fullmatch(name) and _keeps(template, name)))
    return TemplateTraits(
        on=on,
        off=off,
        effort=effort,
        efforts=efforts,
        budget=budget,
        keep=keep,
        keeps_reasoning=_kept(template, on),
        on_off=tuple(sorted(on_off)),
    )


def _on_off(template: ChatTemplate, names: set[str]) -> dict[str, tuple[SwitchValue, SwitchValue]]:
    """The variables that say whether to reason, each with its values for yes and no."""
    found: dict[str, tuple[SwitchValue, SwitchValue]] = {}
    for name, yes, no in _ON_OFF:
        if name not in names or name in found:
            continue
        reasoning, without = _written(template, {name: yes}), _written(template, {name: no})
        if reasoning is None or without is None or reasoning == without:
            continue
        if not (isinstance(no, str) and _echoes(template, name)):
            found[name] = (yes, no)
    return found


def _echoes(template: ChatTemplate, name: str) -> bool:
    """Whether a template writes any word that this variable is set to."""
    return _NO_WORD in (_written(template, {name: _NO_WORD}) or "")


def _efforts(
    template: ChatTemplate, names: set[str], on: Mapping[str, SwitchValue]
) -> tuple[str, tuple[str, ...]]:
    for name in _EFFORT:
        if name not in names:
            continue
        if _echoes(template, name):
            return name, _ANY_EFFORT
        other = _written(template, {**on, name: _NO_WORD})
        written = {effort: _written(template, {**on, name: effort}) for effort in _EFFORTS}
        taken = tuple(word for word, text in written.items() if text not in (None, other))
        if taken:
            return name, taken
    return "", ()


def _counts(template: ChatTemplate, name: str) -> bool:
    few, more = _written(template, {name: 1000}), _written(template, {name: 2000})
    return few is not None and more is not None and few != more


def _keeps(template: ChatTemplate, name: str) -> bool:
    """Whether a variable decides what is kept of the reasoning of a turn before the last."""
    over = [*_chain(), *_later_turn()[1:]]
    return any(
        {_shows(template, turns, {name: value}) for value in (True, False)} == {True, False}
        for turns in (_later_turn(), over)
    )


def _kept(template: ChatTemplate, on: Mapping[str, SwitchValue]) -> Keeps:
    if _shows(template, _later_turn(), on):
        return "always"
    return "tool_chain" if _shows(template, _chain(), on) else "never"


def _later_turn() -> list[Turn]:
    return [
        Turn(Role.USER, "a", "", "user"),
        Turn(Role.ASSISTANT, "b", "", "assistant", reasoning="because", reasoning_field="why"),
        Turn(Role.USER, "c", "", "user"),
    ]


def _chain() -> list[Turn]:
    call = ToolCall("probe", {"place": "here"}, "probe0001", "call")
    return [
        Turn(Role.USER, "a", "", "user"),
        Turn(Role.ASSISTANT, "", "", "", calls=(call,), reasoning="because", reasoning_field="why"),
        Turn(Role.TOOL, "b", "", "tool", answers=call, call_field="id"),
    ]


def _shows(
    template: ChatTemplate, turns: list[Turn], switches: Mapping[str, SwitchValue]
) -> bool | None:
    """Whether the prompt has the reasoning in it; ``None``: the template refuses the turns."""
    try:
        return any(slot.field == "why" for slot in template.slots_of(turns, switches))
    except PromptError:
        return None


def _written(template: ChatTemplate, switches: Mapping[str, SwitchValue]) -> str | None:
    """The prompt of one user's message; ``None`` if the template refuses it."""
    try:
        return template.text_of([Turn(Role.USER, "a", "", "user")], switches)
    except PromptError:
        return None
