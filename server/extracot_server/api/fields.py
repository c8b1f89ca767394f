"""Fields of a body that are not what they seem: unsupported ones, near misses, and renamed ones.

The same for every API; which fields those are is each API's to say.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from extracot.errors import PromptError
from extracot_server.engine.base import EngineRequestError
from extracot_server.errors import BudgetError, InvalidRequestError

_MESSAGE = re.compile(r"messages\[(\d+)\](.*)")


def refuse_fields(
    body: Mapping[str, Any],
    known: Collection[str],
    refused: Mapping[str, str],
    harmless: Mapping[str, tuple[Any, ...]],
) -> None:
    """Raise :class:`InvalidRequestError` for a field of the closed list ``refused``.

    Its values are hints at what to use (empty: there is none); ``harmless`` has the values by which
    a field asks for nothing. A near miss of ``budget`` is a :class:`BudgetError`.
    """
    for key, value in body.items():
        if key in known or value is None:
            continue
        if any(value == h and type(value) is type(h) for h in harmless.get(key, ())):
            continue
        if key in refused:
            hint = refused[key]
            raise InvalidRequestError(
                f"`{key}` is not supported by this server" + (f"; {hint}." if hint else "."),
                param=key,
                code="unsupported_parameter",
            )
        near = difflib.get_close_matches(key.lower(), ["budget"], n=1, cutoff=0.75)
        if near:
            raise BudgetError(f"Unknown field `{key[:64]}`; did you mean `budget`?", param=key[:64])


@contextmanager
def renamed(fields: Mapping[str, str], origins: Sequence[str]) -> Iterator[None]:
    """Errors that name a chat request's field name the one that its client knows.

    ``fields`` maps whole names; ``origins`` is where each message came from, with a ``*`` at the
    end where the rest of a path goes with it.
    """
    try:
        yield
    except PromptError as error:
        if error.field is not None:
            new = _renamed(error.field, fields, origins)
            error.args = (str(error).replace(error.field, new),)
            error.field = new
        raise
    except (InvalidRequestError, EngineRequestError) as error:
        if error.param is not None:
            new = _renamed(error.param, fields, origins)
            error.args = (str(error).replace(error.param, new),)
            error.param = new
        raise


def _renamed(field: str, fields: Mapping[str, str], origins: Sequence[str]) -> str:
    match = _MESSAGE.fullmatch(field)
    if match is None:
        return fields.get(field, field)
    origin = origins[int(match[1])]
    return origin[:-1] + match[2] if origin.endswith("*") else origin
