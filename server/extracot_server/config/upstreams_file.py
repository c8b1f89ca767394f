"""Reads the upstreams file: servers with weights, drains and limits, and a canary.

A file is right or refused as a whole, in one line; what is done with it is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from extracot_server.config.setting_values import (
    SettingsError,
    base_url,
    did_you_mean,
    first_fault,
    load_yaml,
    read_key_file,
    read_text,
    spread_keys,
)

DEFAULT_NAME = "canary"
Stick = Literal["conversation", "key", "request"]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:\[\]-]{1,128}$")]
_RULES = {
    "weight": "must be a whole number from 1 to 1000",
    "share": "must be a number in (0, 1]: 0.05 is one in twenty",
    "stick": "must be conversation, key or request",
    "name": "must be 1 to 128 letters, digits, dots, colons, brackets, dashes or underscores",
}


class UpstreamsError(SettingsError):
    """The file cannot be used; one line without any key."""


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One server, by its base URL. A larger ``weight`` gets more; ``max_running`` waits beyond."""

    url: str
    name: str = ""
    weight: int = 1
    drain: bool = False
    max_running: int | None = None
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", default_name(self.url))

    def told(self) -> dict[str, Any]:
        """What may be shown of it."""
        found = asdict(self)
        del found["api_key"]
        return found


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """A share of a model's requests goes elsewhere, to be compared: one of the last three says
    where to. ``stick`` is what has one side for all of its requests."""

    share: float
    stick: Stick = "conversation"
    name: str = DEFAULT_NAME
    upstreams: tuple[str, ...] = ()
    model: str | None = None
    card: str | None = None

    @property
    def target(self) -> str:
        """Where to, in words."""
        if self.model is not None:
            return f"model {self.model}"
        return f"card {self.card}" if self.card is not None else ", ".join(self.upstreams)


@dataclass(frozen=True, slots=True)
class UpstreamsFile:
    """What a file says: no ``upstreams`` for an engine that has none."""

    upstreams: tuple[UpstreamSettings, ...] = ()
    canary: CanarySettings | None = None
    text: str = field(default="", repr=False, compare=False)
    refused: str = field(default="", compare=False)
    """Why what the file says now is not in force."""


def default_name(url: str) -> str:
    """Host, port and path of an address, as one word.

    >>> default_name("http://gpu-1:8000/vllm")
    'gpu-1:8000-vllm'
    """
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}".strip("/").replace("/", "-")


class _Upstream(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[str, AfterValidator(base_url)]
    name: _Name = ""
    weight: int = Field(1, ge=1, le=1000)
    drain: bool = False
    max_running: int | None = Field(None, ge=1)
    api_key_file: str | None = None


class _Canary(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    share: float = Field(gt=0, le=1)
    stick: Stick = "conversation"
    name: _Name = DEFAULT_NAME
    upstreams: list[str] | None = Field(None, min_length=1)
    model: str | None = Field(None, min_length=1)
    card: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_target(self) -> _Canary:
        given = [self.upstreams, self.model, self.card]
        if sum(target is not None for target in given) != 1:
            raise ValueError("give upstreams, model or card, one of them")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    upstreams: list[_Upstream] | None = Field(None, min_length=1)
    canary: _Canary | None = None


def read_upstreams(
    path: Path, *, remote: bool, api_key: str | None = None, text: str | None = None
) -> UpstreamsFile:
    """The file at ``path``, or the ``text`` that it was; ``api_key`` is for upstreams without a key
    file of their own.

    ``remote``: it is for an engine that has upstreams, so it must name some; another's may be
    empty. Raises :class:`UpstreamsError`.
    """
    where = f"upstreams file {path}"
    try:
        text = read_text(path, "upstreams file") if text is None else text
        content = load_yaml(text, where)
    except ValueError as error:
        raise UpstreamsError(str(error)) from None
    if content is None and not remote:  # its canary was taken out, and it has nothing else
        content = {}
    if not isinstance(content, dict) or (remote and not content):
        raise UpstreamsError(f"{where} must hold `upstreams:` and a list, or `canary:`")
    try:
        found = _File.model_validate(content)
    except ValidationError as error:
        raise UpstreamsError(f"{where}: {_explain(error)}") from None
    if remote and not found.upstreams:
        raise UpstreamsError(f"{where} must hold `upstreams:` and a list of entries under it")
    if not remote and found.upstreams:
        raise UpstreamsError(f"{where}: upstreams are for engines remote and openai")
    entries = [_settings(entry, where, path.parent, api_key) for entry in found.upstreams or []]
    canary = None
    if found.canary is not None:
        values = found.canary.model_dump() | {"upstreams": tuple(found.canary.upstreams or ())}
        canary = CanarySettings(**values)
        if canary.card is not None:  # beside the file, as everything that it names
            canary = replace(canary, card=str(path.parent / Path(canary.card).expanduser()))
    _check(where, entries, canary)
    return UpstreamsFile(tuple(entries), canary, text)


def _settings(entry: _Upstream, where: str, folder: Path, api_key: str | None) -> UpstreamSettings:
    if entry.api_key_file is not None:
        try:
            key_path = folder / Path(entry.api_key_file).expanduser()
            (api_key,) = spread_keys(read_key_file(key_path, "api_key_file"), 1)
        except ValueError as error:
            raise UpstreamsError(f"{where}: {entry.url}: {error}") from None
    values = entry.model_dump(exclude={"api_key_file"})
    return UpstreamSettings(**values, api_key=api_key)


def _check(where: str, entries: Sequence[UpstreamSettings], canary: CanarySettings | None) -> None:
    """What no entry can say of itself."""
    for what in ("url", "name"):
        values = [getattr(entry, what) for entry in entries]
        for value in values:
            if values.count(value) > 1:
                raise UpstreamsError(f"{where}: the {what} {value} is there twice")
    if not entries:
        if canary is not None and canary.upstreams:
            raise UpstreamsError(f"{where}: canary.upstreams is for engines remote and openai")
        return
    names = [entry.name for entry in entries]
    for name in canary.upstreams if canary is not None else ():
        if name not in names:
            raise UpstreamsError(
                f"{where}: canary.upstreams: there is no {name}; there are {', '.join(names)}"
            )
    tried = set(canary.upstreams) if canary is not None else set()
    open_ones = {entry.name for entry in entries if not entry.drain}
    if not open_ones - tried:
        raise UpstreamsError(f"{where}: all upstreams are drained or the canary's: none is left")
    if tried and not open_ones & tried:
        raise UpstreamsError(f"{where}: all upstreams of the canary are drained")


def _explain(error: ValidationError) -> str:
    """What is wrong first, and in which entry."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = list(first["loc"])
    _, message = first_fault(error)
    message = message[:1].lower() + message[1:]
    where = ""
    if place and place[0] == "upstreams" and len(place) > 1:
        where = f"upstreams[{place[1]}]: "
        place = place[2:]
    elif len(place) > 1:
        where, place = f"{place[0]}: ", place[1:]
    name = str(place[0]) if place else ""
    if first["type"] == "extra_forbidden":
        kinds: dict[str, type[BaseModel]] = {"u": _Upstream, "c": _Canary}
        known = list(kinds.get(where[:1], _File).model_fields)
        return f"{where}unknown field {name:.60}{did_you_mean(name, known)}" + (
            f"; allowed: {', '.join(known)}"
        )
    if first["type"] == "model_type":
        return f"{where}must be `name: value` lines"
    return f"{where}{name}{': ' if name else ''}{_RULES.get(name, message)}"


def difference(before: UpstreamsFile, after: UpstreamsFile, *, anew: bool = False) -> str:
    """What is new, in words; never a key. ``anew``: the canary tries something else, which the
    file may not show (a card under the same name)."""
    old = {entry.url: entry for entry in before.upstreams}
    new = {entry.url: entry for entry in after.upstreams}
    came = {new[url].name: url for url in new if url not in old}
    went = {old[url].name: url for url in old if url not in new}
    parts = []
    if added := [name for name in came if name not in went]:
        parts.append(f"added {', '.join(added)}")
    if removed := [name for name in went if name not in came]:
        parts.append(f"removed {', '.join(removed)}")
    if moved := [f"{name} ({went[name]} to {came[name]})" for name in came if name in went]:
        parts.append(f"moved {', '.join(moved)}")
    changed = [
        f"{new[url].name} ({', '.join(_changes(old[url], new[url]))})"
        for url in new
        if url in old and old[url] != new[url]
    ]
    if changed:
        parts.append(f"changed {', '.join(changed)}")
    if before.canary != after.canary:
        parts.append(canary_in_words(after.canary))
    elif anew:
        parts.append("what the canary tries has changed: it is compared anew")
    return "; ".join(parts) or "nothing in it has changed"


def canary_in_words(canary: CanarySettings | None) -> str:
    """Its share and where that goes."""
    if canary is None:
        return "no canary"
    name = "" if canary.name == DEFAULT_NAME else f" {canary.name}"
    return f"canary{name}: {canary.share:.2%} to {canary.target}, by {canary.stick}"


def _changes(old: UpstreamSettings, new: UpstreamSettings) -> list[str]:
    was, now = old.told(), new.told()
    found = [f"{name} {was[name]} to {now[name]}" for name in now if was[name] != now[name]]
    return found + (["another API key"] if old.api_key != new.api_key else [])
