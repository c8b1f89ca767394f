"""Reads deploy/docker-compose.yml as `docker compose` does, as far as that file needs it.

Interpolation is compose's ``${NAME}``, ``${NAME:-default}``, ``${NAME-default}`` (which an empty
value replaces) and ``${NAME:+alternative}``, where the default may hold another; an unset variable
is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy/docker-compose.yml"
EXAMPLE = ROOT / "deploy/.env.example"
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-+])((?:\$\{[^}]*\}|[^}])*))?\}")


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with its variables filled in."""

    def value(found: re.Match[str]) -> str:
        given = variables.get(found[1], "")
        if found[2] == ":-" or (found[2] == "-" and found[1] not in variables):
            return given or interpolate(found[3], variables)
        if found[2] == ":+":
            return found[3] if given else ""
        return given

    return _VARIABLE.sub(value, text)


def project(**variables: str) -> dict[str, Any]:
    """The whole file with these variables set and no others."""

    def fill(node: Any) -> Any:
        if isinstance(node, str):
            return interpolate(node, variables)
        if isinstance(node, list):
            return [fill(item) for item in node]
        if isinstance(node, dict):
            return {key: fill(item) for key, item in node.items()}
        return node

    filled: dict[str, Any] = fill(yaml.safe_load(COMPOSE.read_text()))
    return filled


def services(*profiles: str, **variables: str) -> dict[str, dict[str, Any]]:
    """The services that these profiles start; of all, without any."""
    found: dict[str, dict[str, Any]] = project(**variables)["services"]
    wanted = set(profiles)
    return {n: s for n, s in found.items() if not wanted or wanted & set(s.get("profiles", ()))}


def defaults() -> dict[str, set[str]]:
    """Each variable the file asks for -> the defaults it gives it (``""`` for none)."""
    found: dict[str, set[str]] = {}
    texts = [COMPOSE.read_text()]
    for part in texts:
        for name, sign, text in _VARIABLE.findall(part):
            found.setdefault(name, set())
            if sign != ":+":
                found[name].add(interpolate(text, {}))
            texts.append(text)
    return found


def example() -> dict[str, tuple[str, bool]]:
    """Each variable of .env.example -> what is shown for it, and whether it is set there."""
    found = {}
    for line in EXAMPLE.read_text().splitlines():
        if match := re.fullmatch(r"(#?)([A-Z][A-Z0-9_]*)=(.*)", line):
            assert match[2] not in found, f"{match[2]} twice"
            found[match[2]] = (match[3], match[1] == "")
    return found


def seconds(text: str) -> int:
    """``90s``, ``2m`` or ``1h`` in seconds."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]
