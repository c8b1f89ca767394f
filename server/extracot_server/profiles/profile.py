"""A profile: how a family of models reasons, which its weights do not say. Plain data.

Knows nothing of files, tokenizers or requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from extracot.reasoning import ThinkTags

KeepsReasoning = Literal["never", "always", "tool_chain"]
SwitchValue = bool | int | str
EFFORT_SWITCH = "reasoning_effort"
"""The variable by which templates take an effort."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One of a chat template's own variables and its values; ``None``: it is not set then."""

    on: SwitchValue | None = None
    off: SwitchValue | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """By what a family is known; all that is given has to hold.

    The model's configuration has one of ``model_types`` or ``architectures`` (``*`` stands for
    anything), its chat template all texts of ``template`` and none of ``not_template``, its
    tokenizer all of ``tokens`` as added tokens.
    """

    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    template: tuple[str, ...] = ()
    not_template: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    needs_config: bool = False
    """Template and tokenizer alone do not tell this family from others."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How one family of models reasons.

    ``source`` says where its facts come from, ``baseline_source`` where the baseline does, and
    ``sampling_source`` the sampling.
    """

    name: str
    models: str = ""
    """Which models it is of, in words."""
    tags: ThinkTags = field(default_factory=ThinkTags)
    match: Match = field(default_factory=Match)
    single: bool = False
    """Both tags have to be one token each."""
    closing: str = ""
    """A sentence to write before the end tag of a block that is cut; empty: none."""
    ends_reasoning: tuple[str, ...] = ()
    """Tokens that end reasoning besides the end tag, where the request has tools."""
    hidden: tuple[str, ...] = ()
    """Tokens that mark an answer up and are not shown."""
    efforts: tuple[str, ...] = ()
    """Values that the template's ``reasoning_effort`` takes, the least first."""
    effort_switches: Mapping[str, Mapping[str, SwitchValue]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Of efforts that are told to the template in another way: by which variables."""
    budget_switch: str | None = None
    """The variable by which the template takes a number of reasoning tokens."""
    switches: Mapping[str, Switch] = field(default_factory=lambda: MappingProxyType({}))
    """The template's own variables that turn reasoning on and off."""
    keeps_reasoning: KeepsReasoning = "never"
    """Which earlier reasoning the template writes into a prompt."""
    tool_parser: str | None = None
    baseline: int | None = None
    """Reasoning tokens to expect of a reply without a budget, at the most effort there is."""
    baseline_source: str | None = None
    sampling: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """What the family's makers recommend for its reasoning; empty: nothing that is known."""
    sampling_source: str | None = None
    source: str = ""

    def told_effort(self, effort: str) -> Mapping[str, SwitchValue]:
        """The variables that tell the template one of its ``efforts``."""
        own = self.effort_switches.get(effort)
        return {EFFORT_SWITCH: effort} if own is None else own


UNKNOWN = Profile("unknown", source="no known family: what the settings say, and nothing else")
"""Of a model that no profile fits."""
