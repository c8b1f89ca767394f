"""Reads profiles from YAML: the families that come with this package, and an operator's own.

A file holds one profile, a folder one a file. What is wrong with one is a
:class:`~extracot_server.config.setting_values.SettingsError` in one line that names file and key.
Knows no tokenizer; whether a profile fits one is :mod:`extracot_server.profiles.fit`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as InvalidError

from extracot.errors import ControlTokenError, PromptError
from extracot.reasoning import ThinkTags
from extracot.switches import FIELD, check_switches
from extracot_server.config.setting_values import SettingsError, did_you_mean, load_yaml
from extracot_server.profiles.profile import KeepsReasoning, Match, Profile, Switch, SwitchValue

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
_RESERVED = frozenset({"none", "unknown"})


def _text_keys(value: Any) -> Any:
    """``on`` and ``off`` without quotes, which YAML reads as true and false."""
    words = {True: "on", False: "off"}
    if not isinstance(value, Mapping):
        return value
    return {words[key] if isinstance(key, bool) else key: item for key, item in value.items()}


def _switch_value(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    raise ValueError("must be true, false, a number or a word")


def _efforts(value: Any) -> Any:
    """A list of efforts -> each without variables of its own."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of words, or words with variables")
    if len(set(value)) < len(value):
        raise ValueError("one is listed twice")
    return dict.fromkeys(value)


_Value = Annotated[SwitchValue, BeforeValidator(_switch_value)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Tags(_Data):
    start: _Word
    end: _Word
    opens: str = ""
    closes: str = ""
    skips: str = ""


class _Match(_Data):
    model_types: list[_Word] = Field(default_factory=list)
    architectures: list[_Word] = Field(default_factory=list)
    template: list[_Word] = Field(default_factory=list)
    not_template: list[_Word] = Field(default_factory=list)
    tokens: list[_Word] = Field(default_factory=list)
    needs_config: bool = False


class _Switch(_Data):
    on: _Value | None = None
    off: _Value | None = None


class _Baseline(_Data):
    tokens: int = Field(ge=1)
    source: _Text


class _Sampling(_Data):
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    source: _Text

    def values(self) -> dict[str, float]:
        """What it names."""
        return self.model_dump(exclude={"source"}, exclude_none=True)


class _File(_Data):
    """A profile as it is written."""

    name: _Name
    models: str = ""
    source: _Text
    match: _Match = Field(default_factory=_Match)
    tags: _Tags
    single: bool = False
    closing: str = Field("", max_length=1000)
    ends_reasoning: list[_Word] = Field(default_factory=list)
    hidden: list[_Word] = Field(default_factory=list)
    efforts: Annotated[dict[_Word, dict[_Variable, _Value] | None], BeforeValidator(_efforts)] = (
        Field(default_factory=dict)
    )
    switches: dict[_Variable, Annotated[_Switch, BeforeValidator(_text_keys)]] = Field(
        default_factory=dict
    )
    budget_switch: _Variable | None = None
    keeps_reasoning: KeepsReasoning = "never"
    tool_parser: _Word | None = None
    baseline: _Baseline | None = None
    sampling: _Sampling | None = None


@cache
def built_in() -> tuple[Profile, ...]:
    """The families that come with this package, by name."""
    folder = files("extracot_server.profiles") / "families"
    found = [
        _read(entry.read_text(encoding="utf-8"), f"families/{entry.name}")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    ]
    return tuple(sorted(found, key=lambda profile: profile.name))


def own_profiles(place: Path) -> tuple[Profile, ...]:
    """The profiles of an operator: those of a file, or of every ``*.yaml`` of a folder.

    Raises :class:`SettingsError` in one line.
    """
    if place.is_dir():
        paths = sorted([*place.glob("*.yaml"), *place.glob("*.yml")])
        if not paths:
            raise SettingsError(f"profiles {place}: no .yaml file is in it")
    else:
        paths = [place]
    found: list[Profile] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"profiles {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"profiles {path} is not text") from None
        profile = _read(text, f"profiles {path}")
        if profile.name in [other.name for other in found]:
            raise SettingsError(f"profiles {path}: two profiles are named {profile.name}")
        found.append(profile)
    return tuple(found)


def _read(text: str, where: str) -> Profile:
    try:
        data = load_yaml(text, where)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if not isinstance(data, dict):
        raise SettingsError(f"{where} must hold `key: value` lines of one profile")
    try:
        return _profile(_File.model_validate(data))
    except InvalidError as error:
        raise SettingsError(f"{where}: {_fault(error)}") from None
    except (ControlTokenError, ValueError) as error:
        raise SettingsError(f"{where}: {error}") from None


def _fault(error: InvalidError) -> str:
    """The first fault in a line: an unknown key, which explains one that is missing, or another."""
    every = error.errors(include_url=False)
    first = next((e for e in every if e["type"] == "extra_forbidden"), every[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        return f"unknown key {key}{did_you_mean(name, _keys_beside(first['loc']))}"
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {message[:1].lower()}{message[1:]} (got {first['input']!r:.80})"


def _keys_beside(place: Iterable[int | str]) -> list[str]:
    parts = [str(part) for part in place]
    beside: dict[str, type[BaseModel]] = {
        "match": _Match,
        "tags": _Tags,
        "baseline": _Baseline,
        "sampling": _Sampling,
    }
    kind = beside.get(parts[0], _File) if len(parts) > 1 else _File
    return list((_Switch if parts[0] == "switches" and len(parts) > 1 else kind).model_fields)


def _profile(data: _File) -> Profile:
    """Raises ``ValueError`` or :class:`ControlTokenError` for what contradicts itself."""
    if data.name in _RESERVED:
        raise ValueError(f"name: {data.name} is no name for a profile")
    told = {effort: values for effort, values in data.efforts.items() if values is not None}
    for name, switch in data.switches.items():
        if switch.on is None and switch.off is None:
            raise ValueError(f"switches.{name}: give on, off or both")
        if switch.on == switch.off and type(switch.on) is type(switch.off):
            raise ValueError(f"switches.{name}: on and off are the same")
    if data.sampling is not None and not data.sampling.values():
        raise ValueError("sampling: give temperature, top_p, top_k, min_p or repetition_penalty")
    tags = ThinkTags(**data.tags.model_dump())
    profile = Profile(
        name=data.name,
        models=data.models,
        tags=tags,
        match=_match(data.match),
        single=data.single,
        closing=data.closing,
        ends_reasoning=tuple(data.ends_reasoning),
        hidden=tuple(data.hidden),
        efforts=tuple(data.efforts),
        effort_switches=MappingProxyType({key: MappingProxyType(v) for key, v in told.items()}),
        switches=MappingProxyType(
            {name: Switch(switch.on, switch.off) for name, switch in data.switches.items()}
        ),
        budget_switch=data.budget_switch,
        keeps_reasoning=data.keeps_reasoning,
        tool_parser=data.tool_parser,
        baseline=data.baseline.tokens if data.baseline else None,
        baseline_source=data.baseline.source if data.baseline else None,
        sampling=MappingProxyType(data.sampling.values() if data.sampling else {}),
        sampling_source=data.sampling.source if data.sampling else None,
        source=data.source,
    )
    for values in _told(profile):
        try:
            check_switches(values)
        except PromptError as error:
            raise ValueError(str(error).replace(f"{FIELD}.", "switch ")) from None
    for tag in (tags.start, tags.end):
        if tag in data.closing:
            raise ValueError(f"closing holds the think tag {tag}: give the sentence alone")
    return profile


def _match(data: _Match) -> Match:
    return Match(
        tuple(data.model_types),
        tuple(data.architectures),
        tuple(data.template),
        tuple(data.not_template),
        tuple(data.tokens),
        data.needs_config,
    )


def _told(profile: Profile) -> Iterator[Mapping[str, SwitchValue | None]]:
    """All that the profile may tell a template."""
    for name, switch in profile.switches.items():
        yield {name: switch.on}
        yield {name: switch.off}
    yield from map(profile.told_effort, profile.efforts)
    if profile.budget_switch is not None:
        yield {profile.budget_switch: 1}
