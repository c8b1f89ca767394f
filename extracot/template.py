"""A tokenizer's chat template, seen as fixed text with places where messages go.

The template is rendered over stand-ins for the messages, so that it never sees, and cannot be
steered by, what a client wrote. Knows nothing of token ids, controls or think tags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from extracot.errors import PromptError
from extracot.tokens import Tokenizer

# Letters and digits only: no template trims, escapes or looks for these.
_STAND_IN = "qXzMessage{:06d}qXz"
_STAND_INS = re.compile(r"qXzMessage(\d{6})qXz")

_PROBED = ("system", "user", "assistant", "user")


@dataclass(frozen=True, slots=True)
class _Trim:
    """Which characters a template takes off the ends of a message; ``None``: all white space."""

    lead: str | None = ""
    tail: str | None = ""


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def layout(self, roles: Sequence[str]) -> list[str | int]:
        """The prompt for messages of these roles, up to where the reply begins.

        Fixed text and the index of a message in turn, beginning and ending with fixed text
        (which may be empty). Raises :class:`PromptError` if the template refuses the roles, or
        leaves a message out.
        """
        layout = self._render(roles, [_STAND_IN.format(index) for index in range(len(roles))])
        missing = set(range(len(roles))) - {part for part in layout if isinstance(part, int)}
        if missing:
            index = min(missing)
            raise PromptError(f"the chat template leaves out the {roles[index]} message")
        return layout

    def trim(self, role: str, text: str, *, tail: bool = True) -> str:
        """What the template would leave of a message's ends; ``tail=False``: begin only."""
        trim = self._trims.get(role, _Trim())
        if trim.lead != "":
            text = text.lstrip(trim.lead)
        if tail and trim.tail != "":
            text = text.rstrip(trim.tail)
        return text

    def _render(self, roles: Sequence[str], contents: Sequence[str]) -> list[str | int]:
        conversation = [
            {"role": role, "content": content}
            for role, content in zip(roles, contents, strict=True)
        ]
        try:
            text = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is foreign code: it may raise anything at all
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PromptError(f"the chat template refuses these messages: {reason}") from error
        parts = _STAND_INS.split(text)
        return [int(part) if n % 2 else part for n, part in enumerate(parts)]

    @cached_property
    def _trims(self) -> Mapping[str, _Trim]:
        """What is taken off, by role: tried out once, with one character at a time."""
        roles: Sequence[str] = _PROBED
        try:
            plain = self.layout(roles)
        except PromptError:
            roles = roles[1:]  # no system role
            try:
                plain = self.layout(roles)
            except PromptError:
                roles = roles[-1:]
                plain = self.layout(roles)
        lead = {role: "" for role in roles}
        tail = {role: "" for role in roles}
        names = [_STAND_IN.format(index) for index in range(len(roles))]
        for space in (" ", "\n", "\t"):
            before = self._render(roles, [space + name for name in names])
            after = self._render(roles, [name + space for name in names])
            for index, role in enumerate(roles):
                at = plain.index(index)
                if space not in lead[role] and before[at - 1] == plain[at - 1]:
                    lead[role] += space
                if space not in tail[role] and after[at + 1] == plain[at + 1]:
                    tail[role] += space
        everything = " \n\t"
        return {
            role: _Trim(
                None if lead[role] == everything else lead[role],
                None if tail[role] == everything else tail[role],
            )
            for role in roles
        }
