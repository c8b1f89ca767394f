"""Files of wordings: ``[rule]``, then one alternative a line; ``#`` begins a comment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable


def read_rules(places: Iterable[Traversable]) -> Mapping[str, tuple[str, ...]]:
    """Each rule's alternatives. A rule may go on in another file."""
    found: dict[str, list[str]] = {}
    for place in places:
        into: list[str] = []
        for line in place.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                into = found.setdefault(line.strip("[]"), [])
            elif line and not line.startswith("#"):
                into.append(line)
    return {name: tuple(lines) for name, lines in found.items()}
