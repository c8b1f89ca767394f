"""Whether what keeps to a schema can end: a part that needs itself would have to be infinite.

A model that begins such a value writes until it runs out of tokens. Knows no grammar backend.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from extracot_server.engine.json_schema import Steps, children, follow, walk

_SIMPLE = re.compile(r"(\^?)([\w -]*)(\$?)")  # no choice and no repetition: a text to look for
_MOST_PAIRS = 10_000
"""Names and patterns that are held against each other; with more nothing is told of them."""


def without_end(root: Any) -> Steps | None:
    """A part of a schema, whose references are sound, that no finite value keeps to.

    What can end is found step by step: first what needs nothing, then what needs only that. A part
    is looked at again only when one that it uses turns out to end.
    """
    places = {id(node): (steps, node) for steps, node in walk(root) if isinstance(node, Mapping)}
    users: dict[int, list[int]] = {}
    for key, (_, node) in places.items():
        for part in _used(node, root):
            users.setdefault(id(part), []).append(key)
    ends: set[int] = set()
    waiting = dict.fromkeys(places)  # the last one first: the inner ones
    while waiting:
        key, _ = waiting.popitem()
        if _can_end(places[key][1], root, ends):
            ends.add(key)
            waiting |= dict.fromkeys(user for user in users.get(key, ()) if user not in ends)
    left = [place for key, place in places.items() if key not in ends]
    by_reference = [steps for steps, node in left if "$ref" in node]
    named = by_reference or [steps for steps, _ in left]
    return min(named, key=lambda steps: (len(steps), str(steps)), default=None)


def _used(node: Mapping[str, Any], root: Any) -> list[Any]:
    """The schemas that one is made of, and the one that it refers to."""
    parts = [part for _, part in children(node)]
    return [*parts, follow(node["$ref"], root)[1]] if "$ref" in node else parts


def _can_end(node: Mapping[str, Any], root: Any, ends: set[int]) -> bool:
    if "$ref" in node and not _ended(follow(node["$ref"], root)[1], ends):
        return False
    if "const" in node or "enum" in node:
        return True
    for word in ("anyOf", "oneOf"):
        if word in node and not any(_ended(part, ends) for part in node[word]):
            return False
    if not all(_ended(part, ends) for part in node.get("allOf", ())):
        return False
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return any(_kind_can_end(kind, node, ends) for kind in kinds)


def _kind_can_end(kind: Any, node: Mapping[str, Any], ends: set[int]) -> bool:
    if kind in ("object", None):
        needed = list(_needed(node))
        if kind == "object" or needed:
            return all(_ended(part, ends) for part in needed)
    if kind == "array" and node.get("minItems", 0) > 0:
        fixed = node.get("prefixItems", ())
        needed = list(fixed[: int(node["minItems"])])
        if len(fixed) < node["minItems"] and isinstance(node.get("items"), Mapping):
            needed.append(node["items"])
        return all(_ended(part, ends) for part in needed)
    return True


def _needed(node: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas of the properties that an object must have, as far as that is quickly told."""
    properties, others = node.get("properties", {}), node.get("additionalProperties")
    patterned, names = node.get("patternProperties", {}), node.get("required", ())
    wanted = [_SIMPLE.fullmatch(pattern) for pattern in patterned]
    plain = all(wanted) and len(wanted) * len(names) <= _MOST_PAIRS
    for name in names:
        found = [properties[name]] if name in properties else []
        if plain:
            pairs = zip(wanted, patterned.values(), strict=True)
            found += [part for simple, part in pairs if simple and _in(name, *simple.groups())]
        yield from found or ([others] if plain else ())
    if node.get("minProperties", 0) > len(properties) and not patterned:
        yield others


def _in(name: str, start: str, text: str, end: str) -> bool:
    """Whether a pattern of one text, bound to a name's start or end or neither, is in the name.

    >>> _in("a_b", "^", "a", ""), _in("a_b", "^", "a", "$"), _in("a_b", "", "_b", "$")
    (True, False, True)
    """
    if start and end:
        return name == text
    return name.startswith(text) if start else name.endswith(text) if end else text in name


def _ended(part: Any, ends: set[int]) -> bool:
    return not isinstance(part, Mapping) or id(part) in ends
