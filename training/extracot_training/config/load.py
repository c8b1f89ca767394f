"""YAML plus ``--set key=value`` to a checked configuration, with errors of one line.

Knows pydantic and YAML; knows no stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from extracot_training.config.messages import (
    fields_at,
    joined,
    message_of,
    models_in,
    near_miss,
)
from extracot_training.config.unique_yaml import ValueFault, unique_yaml
from extracot_training.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
_SECOND = "<document start>"


def load_config(
    model: type[M],
    file: Path | None,
    overrides: Sequence[str] = (),
    *,
    under: Mapping[str, Any] | None = None,
    given: Mapping[str, str | None] | None = None,
    flag: str = "--set",
) -> M:
    """The configuration in ``file`` with ``key.sub=value`` overrides (values are YAML) on top, or
    on top of the settings ``under`` where there is no file. What is ``given`` replaces settings as
    the text that it is. ``flag`` is what overrides come from.

    Raises :class:`ConfigError`: unreadable file, broken YAML (``file:line``), unknown key (with the
    nearest known one), bad value.
    """
    data = read_yaml(file) if file is not None else dict(under or {})
    for override in overrides:
        key, equals, text = override.partition("=")
        told = f"{flag} {override if len(override) <= 200 else override[:197] + '...'}"
        if not equals or not all(key.split(".")):
            raise ConfigError(f"{told}: want KEY=VALUE, a KEY with dots as splits.dev")
        try:
            value = unique_yaml(text)
        except ValueFault as error:
            raise ConfigError(f"{told}: {error.problem}", key=key) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{told}: the value is not YAML", key=key) from error
        _assign(data, key.split("."), value, told)
        flag_text = (given or {}).get(key)
        if flag_text is not None and Path(flag_text) not in (Path(text), Path(str(value))):
            raise ConfigError(f"{told} and --{key} {flag_text} differ; give one of them", key=key)
    data |= {key: text for key, text in (given or {}).items() if text is not None}
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _one_line(error, model, file, data) from error


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping. Raises :class:`ConfigError` in one line, with the line number if broken."""
    try:
        data = unique_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text; save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = error.problem or "broken YAML"
        if _SECOND in problem:  # a row of JSONL is a mapping, and so is the next
            problem = "no YAML mapping of settings: something else follows a first one"
        raise ConfigError(f"{file}{line}: {problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: broken YAML") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: want a mapping of settings, not a {type(data).__name__}")
    return data


def describe(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One line per setting, nested ones dotted: name, type, default, description."""
    own = vars(model).get("__annotations__", {})  # told before what other stages have as well
    known = model.model_fields
    for name in dict.fromkeys([*(name for name in own if name in known), *known]):
        info = known[name]
        nested = list(models_in(info.annotation))
        default = " (required)" if info.is_required() and not nested else ""
        if info.default is not PydanticUndefined and not nested:
            default = f" [{info.default}]"
        yield f"{prefix}{name}{default}: {info.description or ''}".rstrip(": ")
        if len(nested) == 1:
            yield from describe(nested[0], f"{prefix}{name}.")
        if len(nested) > 1:
            yield from _describe_choices(nested, f"{prefix}{name}.")


def _describe_choices(choices: Sequence[type[BaseModel]], prefix: str) -> Iterator[str]:
    """One line per kind with its settings; then, once, the settings within those."""
    below: dict[str, tuple[str | None, type[BaseModel]]] = {}
    for choice in choices:
        known = choice.model_fields
        kind = known["kind"].default if "kind" in known else "?"
        shown = (
            f"{name} (required)" if info.is_required() else name
            for name, info in known.items() if name != "kind"
        )  # fmt: skip
        yield f"{prefix}kind={kind}: {', '.join(shown)}"
        for name, info in known.items():
            for inner in models_in(info.annotation):
                below.setdefault(name, (info.description, inner))
    for name, (description, inner) in below.items():
        yield f"{prefix}{name}: {description or ''}".rstrip(": ")
        yield from describe(inner, f"{prefix}{name}.")


def _assign(data: dict[str, Any], path: Sequence[str], value: Any, told: str) -> None:
    holder: Any = {"": data}
    key: Any = ""
    for part in path:
        if holder[key] is None:  # nothing yet, or null: what is set lies in a mapping
            holder[key] = {}
        level = holder[key]
        if isinstance(level, list):
            number = part.isascii() and part.isdecimal() and len(part) < 10
            if not number or int(part) >= len(level):
                raise ConfigError(f"{told}: no item {part[:60]!r} (there are {len(level)})")
            holder, key = level, int(part)
        elif isinstance(level, dict):
            level.setdefault(part, None)
            holder, key = level, part
        else:
            raise ConfigError(f"{told}: {part!r} lies below a plain value")
    holder[key] = value


def _one_line(
    error: ValidationError, model: type[BaseModel], file: Path | None, data: dict[str, Any]
) -> ConfigError:
    faults = error.errors(include_url=False)
    # A misspelt key also leaves the right one missing: the misspelling is what to tell.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    key = _key(fault["loc"], data)
    where = f"{file}: " if file is not None else ""
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        hint = _below(name, model) if len(fault["loc"]) == 1 else ""
        hint = hint or near_miss(name, sorted(set(_field_names(model)) - {name}))
        key = key if key.endswith(name) else f"{key}.{name}"  # given within a text, not a mapping
        return ConfigError(f"{where}unknown setting {key!r}{hint}", key=key)
    missing = [f for f in faults if f["type"] == "missing"]
    if fault in missing and len(missing) > 1:  # all that have to be given, in one go
        told_keys = [f"{_key(f['loc'], data)!r}{_meant(model, f['loc'])}" for f in missing]
        return ConfigError(f"{where}settings {' and '.join(told_keys)} are required", key=key)
    # Of a setting that may be one of several things, each says why it is not that.
    told = dict.fromkeys(message_of(f, model) for f in faults if _key(f["loc"], data) == key)
    message = joined(list(told), fault["input"])
    if fault in missing:
        message += _meant(model, fault["loc"])
    if not key:  # What the settings must be together; the message names them.
        return ConfigError(f"{where}{message}")
    return ConfigError(f"{where}setting {key!r}: {message}", key=key)


def _meant(model: type[BaseModel], location: Sequence[int | str]) -> str:
    """`` (its description)`` of the setting at a place, or the empty string."""
    description = next((info.description for info in fields_at(model, location)), None)
    return f" ({description})" if description else ""


def _key(location: Sequence[int | str], data: Any) -> str:
    """``budgets[1]``, ``splits.dev``: the place in the settings as they were given. pydantic also
    names the kinds that it tried (``constrained-float``); those are in no file."""
    key, level = "", data
    for place, part in enumerate(location):
        if isinstance(level, list | tuple) and isinstance(part, int):
            key += f"[{part}]"
            level = level[part] if part < len(level) else None
        elif isinstance(level, dict) and (part in level or place == len(location) - 1):
            key += f".{part}" if key else str(part)
            level = level.get(part)
    return key


def _below(name: str, model: type[BaseModel]) -> str:
    """`` (there is one below 'x')`` for a setting that another one has, or the empty string."""
    holders = [
        repr(holder)
        for holder, info in model.model_fields.items()
        if any(name in _field_names(nested) for nested in models_in(info.annotation))
    ]
    return f" (there is one below {' and '.join(holders)})" if holders else ""


def _field_names(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield name
        for nested in models_in(info.annotation):
            yield from _field_names(nested)
