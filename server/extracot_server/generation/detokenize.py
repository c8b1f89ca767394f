"""Token ids to text one id at a time.

Detokenising here, not in the engine, keeps every piece of text next to the id it came from: that
is what makes counts, log-probabilities and stop strings exact. Knows nothing of budgets.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from functools import partial

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import DecodeStream

from extracot.prompt import Tokenizer

_CONTEXT = 8  # prompt ids given to the stream decoder so that a leading space is right


Detokenizer = Callable[[int], str]
"""One stream: the text that became certain with this id, maybe ''."""
DetokenizerFactory = Callable[[Sequence[int]], Detokenizer]


def detokenizer_factory(
    tokenizer: Tokenizer, tags: Sequence[str] = (), *, show_special: bool = False
) -> DetokenizerFactory:
    """A maker of stream decoders for this tokenizer; the argument is the context's ids.

    Special tokens are no text unless ``show_special`` is set, or one is in ``tags``, which are
    think tags: decoding would drop them, and whoever splits the reply could not see them.
    """
    to_bytes = getattr(tokenizer, "id_to_bytes", None)
    if to_bytes is not None:
        return lambda _context: _bytewise(to_bytes)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    shown = {} if show_special else _dropped_ids(tokenizer, tags)
    if isinstance(backend, FastTokenizer):
        return lambda context: _streaming(backend, context, shown, not show_special)
    return lambda context: _windowed(tokenizer, context, shown, not show_special)


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """The text of one id on its own, for log-probability tables."""
    return tokenizer.decode([token_id], skip_special_tokens=False)


def _dropped_ids(tokenizer: Tokenizer, tags: Sequence[str]) -> dict[int, str]:
    """The ids of tags, or in them, that decoding would leave out, and their texts."""
    ids = {id_ for tag in tags for id_ in tokenizer.encode(tag, add_special_tokens=False)}
    unknown = getattr(tokenizer, "unk_token_id", None)
    return {
        id_: text
        for id_ in ids
        if id_ != unknown
        and (text := token_text(tokenizer, id_))
        and not tokenizer.decode([id_], skip_special_tokens=True)
    }


def _bytewise(to_bytes: Callable[[int], bytes]) -> Detokenizer:
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    return lambda token_id: decode(to_bytes(token_id))


def _streaming(
    backend: FastTokenizer, context: Sequence[int], shown: dict[int, str], skip: bool
) -> Detokenizer:
    stream = DecodeStream(list(context[-_CONTEXT:]), skip_special_tokens=skip)

    def step(token_id: int) -> str:
        nonlocal stream
        if token_id in shown:
            return shown[token_id]
        try:
            text: str | None = stream.step(backend, token_id)
        except Exception as error:  # the Rust decoder raises bare Exception for an odd prefix
            if "prefix" not in str(error):
                raise
            stream = DecodeStream([], skip_special_tokens=skip)
            text = stream.step(backend, token_id)
        return text or ""

    return step


def _windowed(
    tokenizer: Tokenizer, context: Sequence[int], shown: dict[int, str], skip: bool
) -> Detokenizer:
    """For tokenizers without a stream decoder: decode a short window before and after each id."""
    decode = partial(tokenizer.decode, skip_special_tokens=skip)
    window = list(context[-_CONTEXT:])
    done = decode(window)

    def step(token_id: int) -> str:
        nonlocal window, done
        if token_id in shown:
            return shown[token_id]
        window.append(token_id)
        text = decode(window)
        if text.endswith("\N{REPLACEMENT CHARACTER}") or not text.startswith(done):
            return ""
        new = text[len(done) :]
        window = window[-_CONTEXT:]
        done = decode(window)
        return new

    return step
