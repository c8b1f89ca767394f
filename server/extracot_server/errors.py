"""Errors for which a request is refused before it reaches the engine. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from extracot.errors import ExtracotError


class InvalidRequestError(ExtracotError):
    """The request is wrong; ``param`` names the field, ``code`` is OpenAI's word for the kind.

    ``details`` is what Anthropic's SDKs read of an error, where they act on it.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = "invalid_value",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.details = details

    @classmethod
    def of(
        cls,
        field: str,
        what: str,
        code: str = "invalid_value",
        details: Mapping[str, Any] | None = None,
    ) -> Self:
        """``field`` is wrong: named first in the message, and as ``param``."""
        return cls(f"`{field}` {what}", param=field, code=code, details=details)


class BudgetError(InvalidRequestError):
    """``budget`` (or another way to say one) is not a value this model allows."""


class ContextLengthError(InvalidRequestError):
    """The prompt leaves no room for a single token of reply.

    ``written`` are tokens that the server would write itself. Claude Code and LangChain know the
    error by its first words, which are Anthropic's.
    """

    def __init__(
        self, prompt_tokens: int, max_model_len: int, param: str = "messages", *, written: int = 0
    ) -> None:
        longest = max_model_len - written - 1
        super().__init__(
            f"prompt is too long: {prompt_tokens} tokens > {longest} maximum. This model's maximum "
            f"context length is {max_model_len} tokens. However, your messages resulted in "
            f"{prompt_tokens} tokens, which leaves no room for a reply. Please reduce the length "
            "of the messages.",
            param=param,
            code="context_length_exceeded",
        )


class ModelNotFoundError(InvalidRequestError):
    """No model of that name is served to this key; ``aliases`` are those of the one meant.

    ``name`` is ``None`` where none was asked for, ``served`` empty where the key may use none.
    """

    def __init__(
        self, name: str | None, served: Sequence[str], aliases: Sequence[str] = ()
    ) -> None:
        there = f"Served here: {', '.join(served)}."
        if aliases:
            there = f"{there[:-1]}; with a budget in the name: {', '.join(aliases)}."
        if not served:
            there = (
                "This key may use none of the models that are served here: its `models` in the "
                "keys file names others."
            )
        asked = "" if name is None else f"The model `{name[:200]}` does not exist. "
        super().__init__(f"{asked}{there}", param="model", code="model_not_found")


def encodable(text: str) -> str:
    """The text as UTF-8 can hold it: JSON can spell half a character (a lone surrogate)."""
    return text.encode("utf-8", errors="replace").decode()
