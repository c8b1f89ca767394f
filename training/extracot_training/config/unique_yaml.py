"""YAML in which a key is there once and every value can be read, else it is an error with its line.

Of two equal keys the usual reader silently drops the first, and a day such as 2025-13-45, or a
number of thousands of digits, ends it with an error of Python's.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

import yaml

# Keys that are no names: ``<<`` may be there twice, and what it brings may be replaced.
_SPECIAL = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")

_KINDS = {
    "int": "a number that can be read", "float": "a number that can be read",
    "bool": "true or false", "timestamp": "a day or a time",
}  # fmt: skip


class ValueFault(yaml.MarkedYAMLError):
    """YAML whose form is right, but a key is there twice, or a value is none; ``problem`` says
    which."""


class _Loader(yaml.SafeLoader):
    # lm-format-enforcer (vLLM brings it), once imported, has the usual reader take days for texts.
    yaml_constructors: ClassVar = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_timestamp,
    }

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """The mapping as it is written, before anything is merged into it."""
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag in _SPECIAL:
                continue
            name, mark = self.construct_object(key), key.start_mark
            if not isinstance(name, Hashable):
                raise ValueFault(problem=f"{_short(key.value)} is no key", problem_mark=mark)
            if name in lines:
                where = "" if lines[name] == mark.line else f", first in line {lines[name] + 1}"
                problem = f"the key {_short(key.value)} is there twice{where}"
                raise ValueFault(problem=problem, problem_mark=mark)
            lines[name] = mark.line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """PyYAML's own, with what a tag's reader stumbles over as a fault of the value."""
        try:
            return super().construct_object(node, deep)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            kind = _KINDS.get(node.tag.rpartition(":")[2], "what its tag says")
            problem = f"{_short(node.value)} is not {kind}; quote it if it is a text"
            raise ValueFault(problem=problem, problem_mark=node.start_mark) from error


def unique_yaml(text: str) -> Any:
    """What a text says. Raises ``yaml.YAMLError``, of which :class:`ValueFault` is one."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except RecursionError as error:
        raise ValueFault(problem="is nested too deeply") from error
    finally:
        loader.dispose()


def _short(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")
