"""Edits the text of a keys file where it has to change, so that comments and order stay.

New keys are kept as their SHA-256. Every edit is checked as the server would read it. Writes
nothing itself.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import yaml

from extracot_server.admission.keys import KeysError, digest_of, parse_keys


def new_secret() -> str:
    """A key nobody can guess: 256 random bits, printable."""
    return f"sk-{secrets.token_urlsafe(32)}"


def created(
    text: str, path: Path, name: str, secret: str, *, group: str | None = None, admin: bool = False
) -> str:
    """The text with one more entry after the last. Raises :class:`KeysError`."""
    # In quotes: YAML reads a plain 1.0 or no as something else.
    lines = [f"name: {json.dumps(name)}", f'sha256: "{digest_of(secret.encode()).hex()}"']
    lines += [f"group: {json.dumps(group)}"] if group is not None else []
    lines += ["admin: true"] if admin else []
    if not text.strip():
        return _checked("keys:\n" + _block(lines, 2), path)
    parse_keys(text, path)
    entries = _entries(text, path)
    indent, last = entries.start_mark.column, entries.value[-1]
    at = _end_of_line(text, _last_scalar(last).end_mark.index)
    before = text[:at] if text[:at].endswith("\n") else f"{text[:at]}\n"
    return _checked(before + _block(lines, indent) + text[at:], path)


def revoked(text: str, path: Path, name: str) -> str:
    """The text without an entry. Raises :class:`KeysError`, also where it is the only one."""
    parse_keys(text, path)
    entries = _entries(text, path)
    if len(entries.value) == 1 and _name(entries.value[0]) == name:
        raise KeysError(f"keys file {path}: {name} is the only key; a server needs one, or no file")
    entry = _entry(entries, path, name)
    start = text.rfind("\n", 0, text.rfind("-", 0, entry.start_mark.index)) + 1
    end = _end_of_line(text, _last_scalar(entry).end_mark.index)
    return _checked(text[:start] + text[end:], path)


def rotated(text: str, path: Path, name: str, secret: str) -> str:
    """The text with another key for an entry. Raises :class:`KeysError`."""
    parse_keys(text, path)
    entry = _entry(_entries(text, path, block=False), path, name)
    for field, value in entry.value:
        if field.value in ("key", "sha256"):
            digest = digest_of(secret.encode()).hex()
            head, tail = text[: field.start_mark.index], text[value.end_mark.index :]
            return _checked(f'{head}sha256: "{digest}"{tail}', path)
    raise AssertionError("an entry without a key has been refused")


def _checked(text: str, path: Path) -> str:
    parse_keys(text, path)
    return text


def _entries(text: str, path: Path, *, block: bool = True) -> yaml.SequenceNode:
    """The node of the list of keys, of a text that :func:`parse_keys` takes."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    found = next(value for field, value in root.value if field.value == "keys")
    assert isinstance(found, yaml.SequenceNode)
    if block and (found.flow_style or root.flow_style):
        raise KeysError(
            f"keys file {path}: keys are in one line ([…]); put each on lines of its own"
        )
    return found


def _entry(entries: yaml.SequenceNode, path: Path, name: str) -> yaml.MappingNode:
    for entry in entries.value:
        if _name(entry) == name and isinstance(entry, yaml.MappingNode):
            return entry
    names = ", ".join(_name(entry) for entry in entries.value)
    raise KeysError(f"keys file {path}: there is no key {name}; there are {names}")


def _name(entry: yaml.Node) -> str:
    return next(str(value.value) for field, value in entry.value if field.value == "name")


def _last_scalar(node: yaml.Node) -> yaml.Node:
    """What an entry ends with: the end of a block includes the comments of what follows."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return node
    return max((_last_scalar(child) for child in _children(node)), key=lambda n: n.end_mark.index)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    for child in node.value:
        yield from child if isinstance(child, tuple) else (child,)


def _end_of_line(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _block(lines: list[str], indent: int) -> str:
    first, *rest = lines
    space = " " * indent
    return "".join([f"{space}- {first}\n", *(f"{space}  {line}\n" for line in rest)])
