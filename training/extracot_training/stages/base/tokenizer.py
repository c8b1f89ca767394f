"""A reversible word-level tokenizer for small models, as a byte-level one without merges.

A piece of text is one token if the vocabulary has it, else its bytes: nothing is unknown, and
decoding gives the text back exactly. A word carries the space before it. A number never does: the
space before it goes with what precedes (``"has 12 pens"`` is ``"has "``, ``"12"``, ``" pens"``),
so that a number is the same token wherever it stands, and arithmetic under the cap is a table.

Knows tokenizers; knows no stage and no prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

TURN_START, TURN_END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# In this order: digits; a LaTeX command with the brace it opens (`\boxed{`); a word; what follows
# an apostrophe; a sign; line breaks; a lone space; anything else. Words and signs take a space
# before them, and the one after them if a digit follows.
PATTERN = (
    r"\d+"
    r"| ?\\[A-Za-z]+\{?"
    r"| ?\p{L}+(?: (?=\d))?"
    r"|'\p{L}+(?: (?=\d))?"
    r"| ?[^\s\p{L}\d](?: (?=\d))?"
    r"|\n\n|\s"
)


def build_tokenizer(
    texts: Iterable[str],
    *,
    numbers: int,
    min_count: int = 1,
    size: int | None = None,
    always: Iterable[str] = (),
) -> Any:
    """A fast tokenizer of ``transformers`` over the pieces of ``texts``.

    Whole numbers 0..``numbers`` are one token, longer ones their digits. Pieces that occur fewer
    than ``min_count`` times, or are too rare for ``size`` tokens in all, are spelled in bytes;
    those of ``always`` are kept. End of turn is the end token; padding has a token of its own.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # one character per byte
    listed = [*alphabet, *(str(number) for number in range(10, numbers + 1))]
    seen = _pieces(texts)
    kept = list(dict.fromkeys(p for p in _pieces(always) if not p.isdigit()))
    by_count = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    kept += [piece for piece, count in by_count if count >= min_count and not piece.isdigit()]
    room = None if size is None else max(0, size - len(listed) - 3)
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(listed + kept[:room]))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    core.pre_tokenizer = _pre_tokenizer()
    core.decoder = decoders.ByteLevel()
    # Offsets without the spaces, so that a token's place is its word's place.
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    core.add_special_tokens(
        [AddedToken(name, normalized=False) for name in (TEXT_END, TURN_START, TURN_END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=TURN_END,
        pad_token=TEXT_END,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _pieces(texts: Iterable[str]) -> Counter[str]:
    """How often each piece occurs, in the alphabet of byte-level tokenizers."""
    cut = _pre_tokenizer().pre_tokenize_str
    return Counter(piece for text in texts for piece, _ in cut(text))


def _pre_tokenizer() -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
