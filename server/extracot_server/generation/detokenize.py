"""Token ids to text one id at a time.

Detokenising here, not in the engine, keeps every piece of text next to the id it came from: that
is what makes counts, log-probabilities and stop strings exact. Knows nothing of budgets.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import DecodeStream

from extracot.prompt import Tokenizer

_CONTEXT = 8  # prompt ids given to the stream decoder so that a leading space is right


class Detokenizer(Protocol):
    """State of one stream. ``step`` returns the text that this id completed, maybe ''."""

    def step(self, token_id: int) -> str:
        """Text that became certain with this id."""


DetokenizerFactory = Callable[[Sequence[int]], Detokenizer]


def detokenizer_factory(tokenizer: Tokenizer, *, show_special: bool = False) -> DetokenizerFactory:
    """A maker of stream decoders for this tokenizer; the argument is the context's ids.

    Special tokens are no text unless ``show_special`` is set.
    """
    to_bytes = getattr(tokenizer, "id_to_bytes", None)
    if to_bytes is not None:
        return lambda _context: _ByteDetokenizer(to_bytes)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, FastTokenizer):
        shown = _visible_special_ids(tokenizer)
        return lambda context: _StreamDetokenizer(backend, context, shown, show_special)
    return lambda context: _WindowDetokenizer(tokenizer, context, show_special)


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """The text of one id on its own, for log-probability tables."""
    return tokenizer.decode([token_id], skip_special_tokens=False)


def _visible_special_ids(tokenizer: Tokenizer) -> dict[int, str]:
    """Think tags that a tokenizer marks as special: decoding would drop them, the splitter not."""
    special = set(getattr(tokenizer, "all_special_tokens", ()))
    return {
        token_id: text
        for text, token_id in tokenizer.get_added_vocab().items()
        if text in special and "think" in text
    }


class _ByteDetokenizer:
    def __init__(self, to_bytes: Callable[[int], bytes]) -> None:
        self._to_bytes = to_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def step(self, token_id: int) -> str:
        return self._decoder.decode(self._to_bytes(token_id))


class _StreamDetokenizer:
    def __init__(
        self,
        backend: FastTokenizer,
        context: Sequence[int],
        shown: dict[int, str],
        show_special: bool,
    ) -> None:
        self._backend = backend
        self._skip = not show_special
        self._shown = shown
        self._stream = self._new_stream(list(context[-_CONTEXT:]))

    def step(self, token_id: int) -> str:
        if token_id in self._shown:
            return self._shown[token_id]
        try:
            text: str | None = self._stream.step(self._backend, token_id)
        except Exception as error:  # the Rust decoder raises bare Exception for an odd prefix
            if "prefix" not in str(error):
                raise
            self._stream = self._new_stream([])
            text = self._stream.step(self._backend, token_id)
        return text or ""

    def _new_stream(self, context: list[int]) -> Any:
        return DecodeStream(context, skip_special_tokens=self._skip)


class _WindowDetokenizer:
    """For tokenizers without a stream decoder: decode a short window before and after each id."""

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int], show_special: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = not show_special
        self._window = list(context[-_CONTEXT:])
        self._done = self._decode(self._window)

    def step(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._decode(self._window)
        if text.endswith("\N{REPLACEMENT CHARACTER}") or not text.startswith(self._done):
            return ""
        new = text[len(self._done) :]
        self._window = self._window[-_CONTEXT:]
        self._done = self._decode(self._window)
        return new

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip)
