"""A profile: how a family of models reasons, which its weights do not say. Plain data.

Knows nothing of files, tokenizers or requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from extracot.reasoning import ThinkTags

SwitchValue = bool | int | str
EFFORT_SWITCH = "reasoning_effort"
"""The variable by which templates take an effort."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One of a chat template's own variables and its values; ``None``: it is not set then."""

    on: SwitchValue | None = None
    off: SwitchValue | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """How one family of models reasons.

    ``source`` says where its facts come from, ``baseline_source`` where the baseline does.
    """

    name: str
    tags: ThinkTags = field(default_factory=ThinkTags)
    opens: str | None = None
    """Written to open a block; ``None``: the start tag and a line break."""
    closes: str | None = None
    """Written to close a block; ``None``: the end tag on a line of its own."""
    closing: str = ""
    """A sentence to write before the end tag of a block that is cut; empty: none."""
    ends_reasoning: tuple[str, ...] = ()
    """Tokens that end reasoning besides the end tag, where the request has tools."""
    hidden: tuple[str, ...] = ()
    """Tokens that mark an answer up and are not shown."""
    efforts: tuple[str, ...] = ()
    """Values that the template's ``reasoning_effort`` takes, the least first."""
    switches: Mapping[str, Switch] = field(default_factory=lambda: MappingProxyType({}))
    """The template's own variables that turn reasoning on and off."""
    keeps_reasoning: Literal["never", "always", "tool_chain"] = "never"
    """Which earlier reasoning the template writes into a prompt."""
    tool_parser: str | None = None
    baseline: int | None = None
    """Reasoning tokens to expect of a reply without a budget, at the most effort there is."""
    baseline_source: str | None = None
    source: str = ""


UNKNOWN = Profile("unknown", source="no known family: what the settings say, and nothing else")
"""Of a model that no profile fits."""
