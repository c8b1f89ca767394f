"""A stand-in for a tokenizer that is elsewhere: four bytes of text count as one token.

Prompts are rendered with it for their checks and to know about how long they are; no id of it
reaches a server. Lossless, like every tokenizer here, and without a vocabulary that grows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer

BYTES = 4
"""Of English prose in UTF-8 in a token, about; of other scripts somewhat more, of code fewer."""
_PIECES = 1 << 40
"""Ids from here on are pieces: their length and their bytes."""


class EstimatingTokenizer(ScriptedTokenizer):
    """The template of the scripted engine; text in pieces of :data:`BYTES`."""

    def __init__(self) -> None:
        super().__init__()
        longest_first = sorted(self._added, key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, longest_first)))

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text; added tokens spelled in it become their single id."""
        ids: list[int] = []
        at = 0
        for match in self._marks.finditer(text):
            ids += _pieces(text[at : match.start()])
            ids.append(self._added[match.group()])
            at = match.end()
        return ids + _pieces(text[at:])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of ids; incomplete UTF-8 becomes U+FFFD."""
        skipped = self._special_ids if skip_special_tokens else frozenset()
        joined = b"".join(self.id_to_bytes(id_) for id_ in ids if id_ not in skipped)
        return joined.decode("utf-8", errors="replace")

    def id_to_bytes(self, token_id: int) -> bytes:
        """The exact bytes of one id."""
        if token_id < _PIECES:
            return super().id_to_bytes(token_id)
        length = token_id // _PIECES
        return (token_id % _PIECES).to_bytes(length, "big")


def _pieces(text: str) -> list[int]:
    data = text.encode("utf-8", errors="replace")
    cuts = [data[at : at + BYTES] for at in range(0, len(data), BYTES)]
    return [len(cut) * _PIECES + int.from_bytes(cut, "big") for cut in cuts]
