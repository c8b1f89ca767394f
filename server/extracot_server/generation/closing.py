"""What is written into a think block that the server cuts off, before its end tag.

A sentence of the request's, of the operator's or of the model's profile: text like any other, which
can become no control token and no tag. Knows neither HTTP nor when a block is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from extracot.errors import PromptError
from extracot.prompt import PromptRenderer, Tokenizer
from extracot_server.profiles.fit import MAX_CLOSING_TOKENS

_BREAK = "\n\n"


class ClosingError(ValueError):
    """A closing that cannot be used; the message goes on from the name of its field."""


@dataclass(frozen=True, slots=True)
class Closing:
    """A closing as it is shown, with the line break before it, and as token ids."""

    text: str = ""
    ids: tuple[int, ...] = ()


BARE = Closing()
"""The end tag alone."""


def make_closing(
    text: str, renderer: PromptRenderer, tokenizer: Tokenizer, reserved: Iterable[str] = ()
) -> Closing:
    """A closing for one model. Raises :class:`ClosingError` for one that it cannot have.

    ``reserved`` are spellings that would end the reasoning, beside tags and control tokens.
    """
    said = text.strip()
    if not said:
        return BARE
    spelled = (renderer.tags.start, renderer.tags.end, *reserved)
    found = next((tag for tag in spelled if tag in said), None)
    try:
        ids = tuple(renderer.encode_text(_BREAK + said))
        ours = () if found else tokenizer.encode(said, add_special_tokens=False)
    except PromptError as error:
        raise ClosingError(str(error)) from None
    token = next((id_ for id_ in ours if id_ in renderer.protected_ids), None)
    if token is not None:
        found = tokenizer.decode([token], skip_special_tokens=False)
    if found:
        raise ClosingError(
            f"holds {found!r}, a token that this model reads as more than text. "
            "Allowed: plain text without think tags and control tokens"
        )
    if len(ids) > MAX_CLOSING_TOKENS:
        raise ClosingError(
            f"is {len(ids)} tokens with the line break before it. "
            f"Allowed: at most {MAX_CLOSING_TOKENS}"
        )
    return Closing(_BREAK + said, ids)
