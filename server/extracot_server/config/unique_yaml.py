"""YAML in which a name is there once: of two, the usual reader silently drops the first."""

from __future__ import annotations

from typing import Any

import yaml

_SPECIAL = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")
"""Keys that are no names: ``<<`` may be there twice, and what it brings may be replaced."""


class TwiceError(yaml.YAMLError):
    """A name is in a mapping twice."""

    def __init__(self, name: object, first: int, second: int) -> None:
        self.told = f"{str(name)!r:.60} is there twice"
        self.lines = f"line {first}" if first == second else f"lines {first} and {second}"
        super().__init__(self.told)


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """The mapping as it is written, before anything is merged into it."""
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag in _SPECIAL:
                continue
            name, line = self.construct_object(key), key.start_mark.line + 1
            if name in lines:
                raise TwiceError(name, lines[name], line)
            lines[name] = line
        return node


def unique_yaml(text: str) -> Any:
    """What a text says.

    Raises :class:`TwiceError`, ``yaml.YAMLError`` for what is not YAML, and ``ValueError`` for a
    day that is none.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
