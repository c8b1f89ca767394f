"""The profile of a loaded model, and what follows from it: tags, baseline, tool parser.

What the settings say themselves beats the profile; what a budget card says beats both. Knows no
HTTP and no requests.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from types import MappingProxyType

from extracot.card import BudgetCard
from extracot.reasoning import ThinkTags
from extracot_server.config.model_settings import ModelSettings
from extracot_server.config.setting_values import SettingsError
from extracot_server.engine.base import Engine
from extracot_server.profiles.choice import choose, choose_unseen
from extracot_server.profiles.fit import ModelFacts
from extracot_server.profiles.profile import UNKNOWN, Profile
from extracot_server.tool_calls.tool_reading import call_reader_factory
from extracot_server.tool_calls.tools import CallReaderFactory

log = logging.getLogger("extracot.server")
_TAGS = frozenset({"think_start", "think_end"})
_BUILT_IN_PARSER = "hermes"


def profile_of(
    name: str, settings: ModelSettings, engine: Engine, card: BudgetCard | None
) -> Profile:
    """The profile that a started engine's model is served with; which one is logged.

    With trained levels the prompt stays the one that the model was trained with: no switch is set.
    With measured ones it is the one that they were measured with. Raises
    :class:`SettingsError` in one line for a profile of the settings that does not fit.
    """
    info = engine.info
    if info.kind == "openai" and settings.tokenizer is None:
        choice = choose_unseen(settings.profile, settings.profiles)
    else:
        facts = ModelFacts(engine.tokenizer, info.model_type, info.architectures)
        choice = choose(settings.profile, settings.profiles, facts)
    profile = choice.profile
    if card is not None:
        profile = _tagged(profile, card.think_start, card.think_end)
    if card is not None and card.is_trained:
        profile = replace(
            profile,
            switches=MappingProxyType({}),
            efforts=(),
            effort_switches=MappingProxyType({}),
            budget_switch=None,
        )
    elif card is None and (given := _TAGS & settings.model_fields_set):
        start = settings.think_start if "think_start" in given else profile.tags.start
        end = settings.think_end if "think_end" in given else profile.tags.end
        profile = _tagged(profile, start, end)
    log.info("%s: %s", name, _line(profile, choice.reason))
    return profile


def _tagged(profile: Profile, start: str, end: str) -> Profile:
    """The profile with these tags, which are written as usual where they are not its own."""
    if (profile.tags.start, profile.tags.end) == (start, end):
        return profile
    return replace(profile, tags=ThinkTags(start, end), single=False)


def _line(profile: Profile, reason: str) -> str:
    if profile.name == UNKNOWN.name:
        tags = f"{profile.tags.start} and {profile.tags.end}"
        return f"no profile ({reason}): think tags {tags}, caps of the settings' baseline"
    return f"profile {profile.name} ({reason})"


def assumed_tokens(settings: ModelSettings, profile: Profile) -> int:
    """The baseline of cap mode until one is measured."""
    if "assumed_reasoning_tokens" in settings.model_fields_set or profile.baseline is None:
        return settings.assumed_reasoning_tokens
    return profile.baseline


def tool_parser_of(settings: ModelSettings, profile: Profile) -> str | None:
    """The name of the tool parser: the settings', else the profile's."""
    return settings.tool_parser if settings.tool_parser is not None else profile.tool_parser


def call_reader(
    settings: ModelSettings, profile: Profile, engine: Engine
) -> CallReaderFactory | None:
    """Readers of the calls that the model writes by itself; ``None`` where there are none.

    One of vLLM's parsers by the profile alone is used where vLLM is loaded anyway, and where it
    fits. Raises :class:`SettingsError` for one of the settings that does not.
    """
    name, kind = tool_parser_of(settings, profile), engine.info.kind
    if kind == "openai":
        return None  # its servers read them
    if settings.tool_parser is not None or name in (None, _BUILT_IN_PARSER):
        return call_reader_factory(name, kind, engine.tokenizer)
    if kind != "vllm":
        return None
    try:
        return call_reader_factory(name, kind, engine.tokenizer)
    except SettingsError as error:
        log.warning("profile %s: %s", profile.name, error)
        return None


def single_ids(tokens: tuple[str, ...], engine: Engine) -> frozenset[int]:
    """The ids of tokens that are one each."""
    encoded = (engine.tokenizer.encode(token, add_special_tokens=False) for token in tokens)
    return frozenset(ids[0] for ids in encoded if len(ids) == 1)
