"""A request for a reply by chat messages, on the way through an engine. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from extracot_server.engine.base import GenerationRequest


@dataclass(frozen=True, slots=True)
class ChatTurn(GenerationRequest):
    """One request by messages; ``token_ids`` are none.

    ``fields`` are the rest of the body, but for the model's name and what every stream is asked
    for. ``path`` is where the server takes it.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    path: str = "/v1/chat/completions"


def put(body: dict[str, Any], name: str, value: Any) -> None:
    """Set a field of a body; dots in the name lead into its objects.

    >>> body = {"a": {"b": 1}}
    >>> put(body, "a.c", 2)
    >>> body
    {'a': {'b': 1, 'c': 2}}
    """
    *outer, last = name.split(".")
    for key in outer:
        inner = body.get(key)
        body[key] = dict(inner) if isinstance(inner, Mapping) else {}
        body = body[key]
    body[last] = value
