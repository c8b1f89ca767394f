"""YAML in which a name is there once: of two, the usual reader silently drops the first."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError

_MERGE, _VALUE = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"
"""``<<`` is no name: it may be there twice, and what it brings may be replaced. ``=`` is one."""
_FAULTS = (TypeError, LookupError, AttributeError, ValueError, ArithmeticError)
"""What the usual reader raises for a value that is not what its tag says."""


class TwiceError(yaml.YAMLError):
    """A name is in a mapping twice."""

    def __init__(self, told: str, first: int, second: int) -> None:
        self.told = told
        self.lines = f"line {first}" if first == second else f"lines {first} and {second}"
        super().__init__(self.told)


class _Loader(yaml.SafeLoader):
    # lm-format-enforcer (vLLM brings it), once imported, has the usual reader take days for texts.
    yaml_constructors: ClassVar = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp,
    }

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """The mapping as it is written, before anything is merged into it."""
        node = super().compose_mapping_node(anchor)
        found: dict[Any, tuple[Any, yaml.ScalarNode]] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            name = key.value if key.tag == _VALUE else self.construct_object(key)
            if not isinstance(name, Hashable):
                raise ConstructorError(None, None, "found unhashable key", key.start_mark)
            if name in found:
                raise _twice(*found[name], name, key)
            found[name] = name, key
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; an error says where it is, whatever the usual reader raises."""
        try:
            return super().construct_object(node, deep)
        except _FAULTS:
            raise ConstructorError(None, None, "not of its kind", node.start_mark) from None


def _twice(was: object, first: yaml.ScalarNode, name: object, key: yaml.ScalarNode) -> TwiceError:
    told = f"{str(name)!r:.60} is there twice"
    if type(was) is not type(name):  # 1 and true
        told = f"{first.value!r:.60} and {key.value!r:.60} are one name"
    return TwiceError(told, first.start_mark.line + 1, key.start_mark.line + 1)


def unique_yaml(text: str) -> Any:
    """What a text says.

    Raises :class:`TwiceError`, and ``yaml.YAMLError`` for all else that cannot be read.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (*_FAULTS, RecursionError):
        raise yaml.YAMLError("cannot be read") from None
    finally:
        loader.dispose()
