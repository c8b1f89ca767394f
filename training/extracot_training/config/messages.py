"""What pydantic says of a wrong setting, as what to write instead. Knows models; knows no stage.

YAML has lists and mappings, no tuples and no instances of a class.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from extracot_training.pipeline.settings import Flag, leaves

SHOULD_BE = ("Input should be ", "want ")
_SHOWN = 8
_EXAMPLES = {str: "name", Path: "folder", int: "1", float: "0.5"}


def near_miss(word: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest of ``known``, or the empty string."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def message_of(fault: ErrorDetails, model: type[BaseModel]) -> str:
    """One fault of ``model``'s settings, in words that say what is wanted."""
    context = fault.get("ctx", {})
    fields = list(fields_at(model, fault["loc"]))
    match fault["type"]:
        case "tuple_type" | "list_type" | "set_type":
            return f"want a list, such as {_list_like(fields)}"
        case "dict_type" | "mapping_type":
            return "want a mapping, such as {name: value}"
        case "model_type" | "model_attributes_type" | "dataclass_type":
            return f"want a mapping with {_keys(model, fields, str(context.get('class_name')))}"
        case "union_tag_invalid":
            known = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
            key, tag = str(context["discriminator"]).strip("'"), str(context["tag"])
            return f"unknown {key} {tag!r}{near_miss(tag, known)}; known are {', '.join(known)}"
        case "union_tag_not_found":
            key = str(context["discriminator"]).strip("'")
            return f"want a {key}: {_or(_kinds(fields))}"
        case "too_short":
            return f"want at least {context['min_length']}, not {context['actual_length']}"
        case "too_long":
            return f"want at most {context['max_length']}, not {context['actual_length']}"
        case "string_too_short" if context["min_length"] == 1:
            return "want a text, not an empty one"
        case "bool_type" | "bool_parsing":
            return "want true or false"
        case "path_type":
            return "want a path"
    return fault["msg"].removeprefix("Value error, ").partition(", unable to parse ")[0]


def joined(messages: Sequence[str], given: object) -> str:
    """What a setting may be, where it may be one of several things; a truth value is told, for
    YAML makes one of ``yes`` and ``on``."""
    first, *others = messages
    for start in SHOULD_BE:
        others = [other.removeprefix(start) for other in others]
    told = ", or ".join([first, *others])
    flag = isinstance(given, Flag)
    return f"{told}, not {given} (so YAML reads yes, no, on and off)" if flag else told


def fields_at(model: type[BaseModel], location: Sequence[int | str]) -> Iterator[FieldInfo]:
    """The fields that a place in the settings may be, also within an item of a list."""
    place = location[:-1] if location and isinstance(location[-1], int) else location
    if not place:
        return
    levels = [model]
    for part in place[:-1]:
        inner = [
            found
            for level in levels
            if str(part) in level.model_fields
            for found in models_in(level.model_fields[str(part)].annotation)
        ]
        named = [level for level in inner or levels if kind_of(level) == part]
        levels = named or inner or levels
    name = str(place[-1])
    yield from (level.model_fields[name] for level in levels if name in level.model_fields)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field of this type may hold."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in get_args(annotation):
        yield from models_in(part)


def kind_of(model: type[BaseModel]) -> Any:
    """What ``kind`` says in settings that are of this model; ``None`` without one."""
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _kinds(fields: Sequence[FieldInfo]) -> list[str]:
    return [str(kind_of(one)) for field in fields for one in models_in(field.annotation)]


def _keys(model: type[BaseModel], fields: Sequence[FieldInfo], name: str) -> str:
    """The settings below, of the model of this name where there are several."""
    found = [one for field in fields for one in models_in(field.annotation)] or [model]
    meant = [one for one in found if one.__name__ == name] or found
    if len(meant) > 1:
        return f"a kind: {_or(_kinds(fields))}"
    keys = list(meant[0].model_fields)
    return ", ".join([*keys[:_SHOWN], *(["…"] if len(keys) > _SHOWN else [])])


def _or(names: Sequence[str]) -> str:
    *others, last = names or ("?",)
    return f"{', '.join(others)} or {last}" if others else last


def _list_like(fields: Sequence[FieldInfo]) -> str:
    """The beginning of the setting's default, or else items of its type."""
    for field in fields:
        if isinstance(field.default, tuple | list) and field.default:
            return f"[{', '.join(str(one) for one in field.default[:2])}]"
        for leaf in leaves(field.annotation):
            if isinstance(leaf, type) and issubclass(leaf, BaseModel):
                return f"[{{{_first_key(leaf)}}}]"
            if leaf in _EXAMPLES:
                return f"[{_EXAMPLES[leaf]}]"
            if isinstance(leaf, str):
                return f"[{leaf}]"
    return "[a, b]"


def _first_key(model: type[BaseModel]) -> str:
    """How an item that is a mapping begins."""
    if kind_of(model) is not None:
        return f"kind: {kind_of(model)}, …"
    needed = (name for name, info in model.model_fields.items() if info.is_required())
    return f"{next(needed, next(iter(model.model_fields)))}: …"
