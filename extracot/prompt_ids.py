"""Parts of a prompt as token ids: a template's text, clients' texts in it, and control tokens.

What stands between two added tokens is read as one text, as any tokenizer reads it. Only where that
gives a protected id which the template's text does not are the clients' texts read by themselves.
Knows nothing of templates, messages or levels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from extracot.errors import PromptError
from extracot.reasoning import ThinkTags
from extracot.tokens import TextEncoder, is_unicode
from extracot.tool_text import Slot

Piece = str | Slot | int
"""A template's text, a client's, or the id of a control token."""


class PromptEncoder:
    """Encodes prompts for one tokenizer and its think tags."""

    def __init__(self, encoder: TextEncoder, tags: ThinkTags) -> None:
        self._encoder = encoder
        self._tag = re.compile(f"({re.escape(tags.start)}|{re.escape(tags.end)})")
        self.tag_ids = {tag: encoder.single_id(tag) for tag in (tags.start, tags.end)}
        # Template text repeats from prompt to prompt.
        self.trusted = lru_cache(maxsize=512)(self._encode_trusted)
        self._cuts = lru_cache(maxsize=512)(encoder.begins_with_token)

    def is_beginning(self, before: Sequence[int]) -> bool:
        """Whether the tokenizer would treat what comes after these ids as a beginning."""
        return self._encoder.is_beginning(before)

    def encode_text(
        self, text: str, field: str | None = None, *, beginning: bool = False
    ) -> list[int]:
        """Token ids of untrusted text: none of them is protected.

        Raises :class:`PromptError`, with ``field``, for a text that is not valid Unicode.
        """
        try:
            return self._encoder.encode_text(text, beginning=beginning)
        except PromptError as error:
            raise PromptError(str(error), field=field) from error

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Token ids of a prompt.

        Raises :class:`PromptError`, with the field, for a client's text that is not valid Unicode.
        """
        ids: list[int] = []
        stretch: list[str | Slot] = []
        for piece in pieces:
            if isinstance(piece, int):
                ids += self._stretch(stretch, self.is_beginning(ids))
                ids.append(piece)
                stretch = []
            else:
                stretch.append(piece)
        return ids + self._stretch(stretch, self.is_beginning(ids))

    def _stretch(self, pieces: Sequence[str | Slot], beginning: bool) -> list[int]:
        ids: list[int] = []
        for part in self._parts(pieces):
            begins = self.is_beginning(ids) if ids else beginning
            if len(part) < 3:
                ids += self._apart(part, begins)
            elif (read := self._as_one(part, begins)) is not None:
                ids += read
            else:
                for pair in _pairs(part):
                    begins = self.is_beginning(ids) if ids else beginning
                    read = self._as_one(pair, begins)
                    ids += self._apart(pair, begins) if read is None else read
        return ids

    def _parts(self, pieces: Sequence[str | Slot]) -> Iterator[Sequence[str | Slot]]:
        """Cut before each text of the template's that begins with an added token.

        No tokenizer reads across an added token, so that what is before it is read alone.
        """
        part: list[str | Slot] = []
        for piece in pieces:
            if part and isinstance(piece, str) and self._cuts(piece):
                yield part
                part = []
            part.append(piece)
        yield part

    def _as_one(self, pieces: Sequence[str | Slot], beginning: bool) -> Sequence[int] | None:
        """The ids; ``None`` if a client's text makes a protected one."""
        texts = [piece if isinstance(piece, str) else piece.text for piece in pieces]
        text = "".join(texts)
        if not is_unicode(text):
            return None
        ids = self._encode_trusted(text, beginning)
        protected = self._encoder.protected_ids
        ours = [
            id_
            for piece in pieces
            if isinstance(piece, str)
            for id_ in self.trusted(piece)
            if id_ in protected
        ]
        return ids if [id_ for id_ in ids if id_ in protected] == ours else None

    def _apart(self, pieces: Sequence[str | Slot], beginning: bool) -> list[int]:
        """A template's text and a client's behind it, which is encoded by itself.

        The template's white space goes with the text that follows it, because that is how a
        tokenizer reads it ("USER: " + "Hi" is "USER:" and " Hi").
        """
        ids: list[int] = []
        space = ""
        for n, piece in enumerate(pieces):
            begins = self.is_beginning(ids) if ids else beginning
            if isinstance(piece, Slot):
                ids += self.encode_text(space + piece.text, piece.field, beginning=begins)
                continue
            followed = n + 1 < len(pieces) and isinstance(pieces[n + 1], Slot)
            fixed = piece.rstrip() if followed else piece
            space = piece[len(fixed) :]
            read = self.trusted(fixed, begins)
            if space and read == self.trusted(piece, begins):
                space = ""  # an added token that swallows the white space after it
            ids += read
        return ids

    def _encode_trusted(self, text: str, beginning: bool = False) -> tuple[int, ...]:
        """Text of the template's or ours; think tags by their ids, whatever stands beside them.

        (A tokenizer may know an added token only after a space, if its normaliser adds one.)
        """
        ids: list[int] = []
        for piece in self._tag.split(text):
            if (id_ := self.tag_ids.get(piece)) is not None:
                ids.append(id_)
            elif piece:
                begins = self.is_beginning(ids) if ids else beginning
                ids += self._encoder.encode_trusted(piece, beginning=begins)
        return tuple(ids)


def _pairs(pieces: Sequence[str | Slot]) -> Iterator[tuple[str, Slot]]:
    """Each client's text with the template's text before it; none behind the last one."""
    fixed = ""
    for piece in pieces:
        if isinstance(piece, str):
            fixed += piece
        else:
            yield fixed, piece
            fixed = ""
    if fixed:
        yield fixed, Slot("", "")
