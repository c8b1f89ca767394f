"""Chooses the profile of a model: the one an operator names, else the family that it is of.

A family is known by the model's configuration and by its chat template or tokenizer together; by
its name alone never. Where the configuration is not at hand, the rest has to be of one family only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from extracot_server.config.setting_values import SettingsError, did_you_mean
from extracot_server.profiles.fit import ModelFacts, UnfitProfileError, fitted
from extracot_server.profiles.profile import UNKNOWN, Match, Profile
from extracot_server.profiles.profile_file import built_in, own_profiles

NONE = "none"
"""The name that asks for no profile."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A profile and why it is that one, in a few words."""

    profile: Profile
    reason: str


def check_settings(name: str | None, place: Path | None) -> None:
    """Whether the settings name profiles that there are, before anything is loaded.

    Raises :class:`SettingsError` in one line.
    """
    _named(name, own_profiles(place) if place is not None else ())


def choose(name: str | None, place: Path | None, facts: ModelFacts) -> Choice:
    """The profile of a model: ``name`` of those there are, else by what the model says of itself.

    Raises :class:`SettingsError` in one line where the one that is named, or one of the operator's
    own that matches, does not fit.
    """
    own = own_profiles(place) if place is not None else ()
    if name == NONE:
        return Choice(UNKNOWN, "the settings ask for none")
    named = _named(name, own)
    if named is not None:
        return Choice(_strictly(named, facts, own), "named in the settings")
    if found := [profile for profile in own if matches(profile.match, facts)]:
        if len(found) > 1:
            names = ", ".join(profile.name for profile in found)
            raise SettingsError(f"profiles {names} all match this model: name one with profile")
        return Choice(_strictly(found[0], facts, own), "matched")
    return _family([profile for profile in built_in() if matches(profile.match, facts)], facts)


def choose_unseen(name: str | None, place: Path | None) -> Choice:
    """The profile of a model of which nothing is at hand: the one that is named, unchecked.

    Raises :class:`SettingsError` where there is none of that name.
    """
    named = _named(name, own_profiles(place) if place is not None else ())
    if named is None:
        return Choice(UNKNOWN, "its template is not at hand: name one with --profile")
    return Choice(named, "named in the settings")


def _family(found: Sequence[Profile], facts: ModelFacts) -> Choice:
    if not found:
        return Choice(UNKNOWN, "no known family")
    names = ", ".join(profile.name for profile in found)
    if len(found) > 1:
        return Choice(UNKNOWN, f"it might be of {names}: name one with --profile")
    try:
        profile = fitted(found[0], facts, exactly=False)
    except UnfitProfileError as error:
        return Choice(UNKNOWN, f"it looks like {names}, but {error}")
    known = "configuration and " if facts.model_type is not None else ""
    return Choice(profile, f"by {known}chat template")


def matches(match: Match, facts: ModelFacts) -> bool:
    """Whether a model is of a family, as far as it can be told."""
    if not (match.template or match.tokens):
        return False
    if match.needs_config and facts.model_type is None:
        return False
    if facts.model_type is not None and (match.model_types or match.architectures):
        by_type = any(fnmatchcase(facts.model_type, pattern) for pattern in match.model_types)
        by_class = any(
            fnmatchcase(name, pattern)
            for name in facts.architectures
            for pattern in match.architectures
        )
        if not (by_type or by_class):
            return False
    template = facts.template
    if match.template and template is None and not match.tokens:
        return False
    if template is not None:
        if not all(text in template for text in match.template):
            return False
        if any(text in template for text in match.not_template):
            return False
    return all(token in facts.added for token in match.tokens)


def _named(name: str | None, own: Sequence[Profile]) -> Profile | None:
    if name is None or name == NONE:
        return None
    every = {profile.name: profile for profile in (*built_in(), *own)}  # one's own come last
    if name not in every:
        known = ", ".join([*sorted(every), NONE])
        raise SettingsError(
            f"profile: there is no {name!r:.80}{did_you_mean(name, every)}; there are {known}"
        )
    return every[name]


def _strictly(profile: Profile, facts: ModelFacts, own: Sequence[Profile]) -> Profile:
    try:
        return fitted(profile, facts, exactly=profile in own)
    except UnfitProfileError as error:
        raise SettingsError(f"profile {profile.name} does not fit this model: {error}") from None
