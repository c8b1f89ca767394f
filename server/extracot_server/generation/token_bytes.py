"""The bytes of a token: what it adds to the text, which may be half a character.

Decoding one id cannot tell them: half a character decodes to U+FFFD. They are read from the
vocabulary, by the way its decoder would go. Knows no log-probabilities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from extracot.prompt import Tokenizer

TokenBytes = Callable[[int], bytes]
"""The bytes of one id, as the vocabulary has them."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def token_bytes(tokenizer: Tokenizer) -> TokenBytes:
    """The bytes of this tokenizer's ids.

    Byte-level vocabularies and those that fall back to bytes (SentencePiece) are read exactly; of
    any other kind a token's bytes are those of its text.
    """
    to_bytes: TokenBytes | None = getattr(tokenizer, "id_to_bytes", None)
    if to_bytes is not None:
        return to_bytes
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, FastTokenizer):
        return _of_vocabulary(tokenizer, backend)
    return lambda token_id: _of_text(tokenizer, token_id)


def _of_text(tokenizer: Tokenizer, token_id: int) -> bytes:
    return tokenizer.decode([token_id], skip_special_tokens=False).encode()


def _of_vocabulary(tokenizer: Tokenizer, backend: FastTokenizer) -> TokenBytes:
    steps = list(_decoder_steps(backend.decoder))
    kinds = {step["type"] for step in steps}
    spaces = {step["replacement"] for step in steps if step["type"] == "Metaspace"}
    spaces |= {
        step["pattern"]["String"]
        for step in steps
        if step["type"] == "Replace" and step["content"] == " " and "String" in step["pattern"]
    }
    added = backend.get_added_tokens_decoder()

    def read(token_id: int) -> bytes:
        known = added.get(token_id)
        token = known.content if known is not None else backend.id_to_token(token_id)
        if token is None:
            return b""
        if known is not None:
            return token.encode()
        if "ByteLevel" in kinds and all(c in _byte_level() for c in token):
            return bytes(_byte_level()[c] for c in token)
        if "ByteFallback" in kinds and (found := _BYTE.fullmatch(token)) is not None:
            return bytes([int(found[1], 16)])
        if "ByteFallback" not in kinds and not spaces:
            return _of_text(tokenizer, token_id)
        for space in spaces:
            token = token.replace(space, " ")
        return token.encode()

    return read


def _decoder_steps(decoder: Any) -> Iterator[dict[str, Any]]:
    """What a decoder does, one after the other; nothing where a tokenizer has none."""
    if decoder is None:
        return
    waiting = [json.loads(decoder.__getstate__())]
    while waiting:
        step = waiting.pop(0)
        waiting += step.get("decoders", ())
        yield step


@lru_cache(maxsize=1)
def _byte_level() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, others come after 255."""
    printable = {*chain(range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))}
    others = [value for value in range(256) if value not in printable]
    table = {chr(value): value for value in printable}
    return table | {chr(256 + n): value for n, value in enumerate(others)}


def shares(text: str, token_ids: Sequence[int], own: TokenBytes) -> list[bytes]:
    """The bytes of a text, divided among the tokens that made it: joined they are the text.

    A token has its own bytes as far as the text has them (a decoder drops a leading space and
    writes U+FFFD for what is no character); the last has what is left.
    """
    rest = text.encode()
    found = []
    for token_id in token_ids[:-1]:
        mine = own(token_id)
        share = mine if rest.startswith(mine) else b""
        found.append(share)
        rest = rest[len(share) :]
    return [*found, rest] if token_ids else []
