"""Reasoning of earlier replies, as clients send it back: under every name that is in use.

A chat template decides which of it a prompt has. What is sealed and can't be opened is left out,
and its fields are kept for the report. Two names that say different things are an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from extracot.conversation import BETWEEN, Message
from extracot.reasoning import ThinkTags, split_reasoning
from extracot_server.errors import InvalidRequestError

UNSIGNED = "bm90IHNpZ25lZA=="
"""The signature of thinking that is shown: "not signed" in base64, for clients take a block without
one for text of the user's, or decode it."""
THOUGHTS: Mapping[str, tuple[str, ...]] = {
    "thinking": ("thinking", "text"),
    "reasoning": ("text", "reasoning", "content", "summary"),
    "reasoning_text": ("text",),
    "reasoning_content": ("text", "reasoning_content"),
    "summary_text": ("text",),
    "redacted_thinking": (),
    # of `reasoning_details`
    "reasoning.text": ("text",),
    "reasoning.summary": ("summary",),
    "reasoning.encrypted": (),
}
"""Parts that hold reasoning, by type, and the keys that their text may stand under."""
_SUMMARY = "reasoning.summary"  # it may say something else than what it sums up
MOST_OPENED = 2**23
"""Characters that are opened for one request: what is sealed may be a thousand times shorter."""
_SEALED = ("signature", "data", "encrypted_content")
_TEXTS = ("reasoning", "reasoning_content", "thinking")
_LISTS = ("reasoning_details", "thinking_blocks")

Found = tuple[str, str]
"""A field, and the reasoning that it holds."""


class EarlierReasoning:
    """Reads the reasoning of one request's conversation.

    ``unseal`` opens what this server has sealed for this client; ``unread`` are the fields of what
    it can't open, or does not, since it has opened :data:`MOST_OPENED` of this request before.
    """

    def __init__(self, unseal: Callable[[str], str | None]) -> None:
        self._unseal = unseal
        self._left = MOST_OPENED
        self.unread: list[str] = []

    def of_message(self, message: Mapping[str, Any], where: str) -> list[Found]:
        """What the fields of an assistant's message hold, those of any vendor's.

        Raises :class:`InvalidRequestError` for one that is neither text nor a list of parts.
        """
        found: list[Found] = []
        for name in _TEXTS:
            at, text = f"{where}.{name}", message.get(name)
            if text is not None and not isinstance(text, str):
                raise InvalidRequestError.of(at, "must be a text.")
            found.append((at, text or ""))
        summaries: list[Found] = []
        for name in _LISTS:
            at, parts = f"{where}.{name}", message.get(name)
            if parts is not None:
                found.append((at, self._joined(parts, at, without=_SUMMARY)))
                summaries.append((at, self._joined(parts, at, only=_SUMMARY)))
        told = [(at, text) for at, text in found if text.strip()]
        return told or [(at, text) for at, text in summaries if text.strip()]

    def of_part(self, part: Mapping[str, Any], at: str) -> str:
        """The reasoning of one part; what has no text may have it sealed."""
        for key in THOUGHTS.get(str(part.get("type")), ("text",)):
            text = self._text(part.get(key), f"{at}.{key}")
            if text:
                return text
        return self._opened(part, at)

    def of_item(self, item: Mapping[str, Any], at: str) -> str:
        """The reasoning of an item of the Responses API: itself, sealed, or else its summary.

        Raises :class:`InvalidRequestError` where what is sealed is not what is there to be read.
        """
        sealed = self._opened(item, at)
        plain = self._text(item.get("content"), f"{at}.content")
        both = [(f"{at}.encrypted_content", sealed), (f"{at}.content", plain)]
        said = agreed([(where, text) for where, text in both if text])
        return said or self._text(item.get("summary"), f"{at}.summary")

    def _opened(self, part: Mapping[str, Any], at: str) -> str:
        for key in _SEALED:
            sealed = part.get(key)
            if sealed is not None and not isinstance(sealed, str):
                raise InvalidRequestError.of(f"{at}.{key}", "must be a text.")
            if not sealed or sealed == UNSIGNED:
                continue
            text = self._unseal(sealed) if self._left > 0 else None
            if text is not None:
                self._left -= len(text)
                return text
            self.unread.append(f"{at}.{key}")
        return ""

    def _text(self, value: Any, at: str) -> str:
        """A text, or the texts of parts."""
        if value is None or isinstance(value, str):
            return value or ""
        return self._joined(value, at)

    def _joined(
        self, parts: Any, at: str, *, only: str | None = None, without: str | None = None
    ) -> str:
        """The reasoning of parts, of those of one type ``only``, or ``without`` them.

        Parts of one ``index`` are pieces of one text, as streamed.
        """
        if not isinstance(parts, list):
            raise InvalidRequestError.of(at, "must be a text or a list of parts.")
        joined, before = "", None
        for number, part in enumerate(parts):
            if not isinstance(part, Mapping):
                raise InvalidRequestError.of(f"{at}[{number}]", "must be an object.")
            kind = part.get("type")
            if (only is not None and kind != only) or (without is not None and kind == without):
                continue
            text, index = self.of_part(part, f"{at}[{number}]"), part.get("index")
            goes_on = index is not None and index == before
            joined += text if goes_on or not (joined and text) else BETWEEN + text
            before = index
        return joined


def agreed(found: Sequence[Found]) -> str | None:
    """The reasoning that all fields have, but for white space; ``None`` without any.

    Raises :class:`InvalidRequestError`, which names both, for fields that say different things.
    """
    for field, text in found[1:]:
        first, said = found[0]
        if not _same(text, said):
            message = f"`{first}` and `{field}` disagree: send the reasoning once."
            raise InvalidRequestError(message, param=field)
    return found[0][1] if found else None


def check_blocks(messages: Sequence[Message], tags: ThinkTags, conversation: str) -> None:
    """Raise :class:`InvalidRequestError` for a think block in an answer that has other reasoning.

    ``conversation`` is the field of all messages.
    """
    for index, message in enumerate(messages):
        if message.reasoning is None or not message.content.lstrip().startswith(tags.start):
            continue
        block = split_reasoning(message.content.lstrip(), tags).reasoning
        if _same(block, message.reasoning):
            continue
        where = message.field or f"{conversation}[{index}]"
        other = "the reasoning that came with it" if message.field else f"`{where}.reasoning`"
        text = f"`{where}.content` begins with a think block, and {other} says something else: "
        raise InvalidRequestError(f"{text}send the reasoning once.", param=f"{where}.content")


def _same(text: str, other: str) -> bool:
    """Whether two texts are the same but for white space."""
    return text == other or "".join(text.split()) == "".join(other.split())


def joined(reasoning: Sequence[str | None]) -> str | None:
    """The reasoning of several messages that become one."""
    given = [text for text in reasoning if text is not None]
    return BETWEEN.join(given) if given else None
