"""Says in plain words what is wrong with a body; pydantic's own words name its classes and types.

Knows pydantic's errors and no body in particular.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_TYPES = {
    "string_type": "a text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "a smaller integer",
    "float_type": "a number",
    "finite_number": "a number that is finite",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "string_unicode": "valid Unicode",
    "none_required": "null",
}
"""What a value of the wrong type should have been."""
_BOUNDS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "too_long": "must have at most {max_length} entries",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
}
_BRANCHES = (  # how pydantic calls a branch of a union, and what it takes
    ("list[str]", "a list of texts"),
    ("list[dict[", "a list of objects"),
    ("list[", "a list"),
    ("dict[", "an object"),
    ("str", "a text"),
    ("int", "an integer"),
    ("float", "a number"),
    ("bool", "true or false"),
)


def first_fault(error: ValidationError, where: str = "") -> tuple[str, str, bool]:
    """The first wrong field's path, what is wrong with it, and whether it is missing.

    ``where`` is the field that the whole value is.
    """
    errors = error.errors(include_url=False, include_input=False)
    first = errors[0]
    root = field_path(first["loc"])
    path = ".".join(part for part in (where, root) if part)
    return path, _sentence(first, errors, root), first["type"] == "missing"


def field_path(location: tuple[int | str, ...]) -> str:
    """``("messages", 1, "role")`` -> ``messages[1].role``; names of union branches are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _is_branch(part):
            path += f".{part}" if path else part
    return path


def _is_branch(part: str) -> bool:
    return "[" in part or part in ("str", "float", "int", "bool")


def _sentence(first: ErrorDetails, errors: Sequence[ErrorDetails], root: str) -> str:
    last = first["loc"][-1] if first["loc"] else ""
    if not isinstance(last, str) or not _is_branch(last) or first["type"] not in _expected_types:
        return _of_one(first)
    # Each branch of a union has its own error, and none says what the others take.
    wanted = [_of_branch(e["loc"], len(first["loc"]) - 1) for e in errors if _below(e, root)]
    return f"must be {' or '.join(dict.fromkeys(filter(None, wanted)))}"


_expected_types = {*_TYPES, "literal_error"}


def _below(error: ErrorDetails, root: str) -> bool:
    path = field_path(error["loc"])
    return path == root or path.startswith((f"{root}[", f"{root}."))


def _of_branch(location: tuple[int | str, ...], at: int) -> str:
    name = location[at] if at < len(location) else ""
    if not isinstance(name, str):
        return ""
    if name.startswith("literal["):
        return _listed(name)
    return next((text for start, text in _BRANCHES if name.startswith(start)), "")


def _of_one(error: ErrorDetails) -> str:
    kind = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind in ("literal_error", "enum"):
        return f"must be {_listed(str(context['expected']))}"
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have a length of at least {least}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}"
    return _BOUNDS[kind].format(**context) if kind in _BOUNDS else "has a value that is not allowed"


def _listed(expected: str) -> str:
    """``'a', 'b' or 'c'`` -> ``a, b or c``."""
    *some, last = re.findall(r"'([^']*)'", expected)
    return f"{', '.join(some)} or {last}" if some else last
