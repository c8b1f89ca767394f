"""Whether a profile fits a tokenizer and its chat template, found out by asking both.

A family's profile is cut down to what this model has of it; one of an operator's own has to fit as
it is. Knows no engine and no settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from extracot.prompt import Tokenizer
from extracot_server.profiles.profile import Profile, SwitchValue

MAX_CLOSING_TOKENS = 64
_QUESTION = [{"role": "user", "content": "What is 1 + 1?"}]


class UnfitProfileError(ValueError):
    """A profile does not fit a model; the message is the reason, in one line."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model says of itself: its configuration (``None``: not at hand) and tokenizer."""

    tokenizer: Tokenizer
    model_type: str | None = None
    architectures: tuple[str, ...] = ()

    @cached_property
    def template(self) -> str | None:
        """The text of its chat template, where there is one."""
        found = getattr(self.tokenizer, "chat_template", None)
        if isinstance(found, Mapping):  # several, by name
            found = found.get("default")
        return found if isinstance(found, str) else None

    @cached_property
    def added(self) -> Mapping[str, int]:
        """Its added tokens."""
        return self.tokenizer.get_added_vocab()

    def ids(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def rendered(self, variables: Mapping[str, SwitchValue | None]) -> str | None:
        """A prompt with these variables (``None``: not set); ``None`` where it is refused."""
        given: dict[str, Any] = {k: v for k, v in variables.items() if v is not None}
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(_QUESTION), tokenize=False, add_generation_prompt=True, **given
                )
            )
        except Exception:  # a template is foreign code: it may raise anything at all
            return None

    def reacts(self, one: Mapping[str, SwitchValue | None], other: Mapping[str, Any]) -> bool:
        """Whether the template takes both and writes another prompt for each."""
        a, b = self.rendered(one), self.rendered(other)
        return a is not None and b is not None and a != b


def fitted(profile: Profile, facts: ModelFacts, *, exactly: bool) -> Profile:
    """The profile as far as the model has what it names.

    Raises :class:`UnfitProfileError` for tokens or tags that the tokenizer has not, for a closing
    that is more than text, and, where it has to fit ``exactly``, for whatever else is not there.
    """
    for token in profile.match.tokens:
        if token not in facts.added:
            raise UnfitProfileError(f"the tokenizer has no token {token}")
    for tag in (profile.tags.start, profile.tags.end):
        if profile.single and (count := len(facts.ids(tag))) != 1:
            raise UnfitProfileError(f"its tag {tag} is {count} tokens here, and single is true")
    _check_closing(profile.closing, facts)
    absent: list[str] = []
    cut = replace(
        profile,
        ends_reasoning=_single("ends_reasoning", profile.ends_reasoning, facts, absent),
        hidden=_single("hidden", profile.hidden, facts, absent),
        switches=_switches(profile, facts, absent),
        budget_switch=_budget_switch(profile, facts, absent),
        **_efforts(profile, facts, absent),
    )
    if exactly and absent:
        raise UnfitProfileError(absent[0])
    return cut


def _check_closing(closing: str, facts: ModelFacts) -> None:
    ids = facts.ids(closing)
    names = {id_: token for token, id_ in facts.added.items() if token.strip()}
    inside = next((names[id_] for id_ in ids if id_ in names), None)
    if inside is not None:
        raise UnfitProfileError(f"its closing holds the token {inside}: give plain text")
    if len(ids) > MAX_CLOSING_TOKENS:
        raise UnfitProfileError(f"its closing is {len(ids)} tokens, at most {MAX_CLOSING_TOKENS}")


def _single(
    key: str, tokens: tuple[str, ...], facts: ModelFacts, absent: list[str]
) -> tuple[str, ...]:
    found = tuple(token for token in tokens if len(facts.ids(token)) == 1)
    absent += [f"{key}: {t} is not one token here" for t in tokens if t not in found]
    return found


def _switches(profile: Profile, facts: ModelFacts, absent: list[str]) -> Mapping[str, Any]:
    kept = {}
    for name, switch in profile.switches.items():
        if facts.reacts({name: switch.on}, {name: switch.off}):
            kept[name] = switch
        else:
            absent.append(f"unknown switch {name}: the chat template writes the same without it")
    return MappingProxyType(kept)


def _budget_switch(profile: Profile, facts: ModelFacts, absent: list[str]) -> str | None:
    name = profile.budget_switch
    if name is None or facts.reacts({name: 512}, {}):
        return name
    absent.append(f"unknown switch {name}: the chat template writes the same without it")
    return None


def _efforts(profile: Profile, facts: ModelFacts, absent: list[str]) -> dict[str, Any]:
    """The efforts that the template takes, each by variables that make a difference.

    Asked with reasoning turned on: some templates say nothing of an effort without it.
    """
    on = {name: switch.on for name, switch in profile.switches.items()}
    usual = facts.rendered(on)
    prompts = {e: facts.rendered({**on, **profile.told_effort(e)}) for e in profile.efforts}
    known = {
        variable
        for effort, prompt in prompts.items()
        for variable in profile.told_effort(effort)
        if prompt is not None and prompt != usual
    }
    taken: list[str] = []
    for effort, prompt in prompts.items():
        if prompt is None:
            absent.append(f"efforts: the chat template refuses {effort}")
        elif unknown := sorted(set(profile.told_effort(effort)) - known):
            absent.append(f"unknown switch {unknown[0]}: the chat template writes the same without")
        else:
            taken.append(effort)
    if not any(profile.told_effort(effort) for effort in taken):
        taken = []  # what is left says nothing
    told = {e: profile.effort_switches[e] for e in taken if e in profile.effort_switches}
    return {"efforts": tuple(taken), "effort_switches": MappingProxyType(told)}
