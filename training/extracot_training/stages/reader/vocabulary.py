"""The reader's tokenizer: whole words, whole numbers, single signs; lower case.

A whole number is one token so that arithmetic under a small cap is a table to learn, not an
algorithm: that is what makes a reader of a few million parameters possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

PAD, UNKNOWN, BEGIN, END, TRACE, ANSWER = (
    "<pad>", "<unk>", "<s>", "</s>", "<trace>", "<answer>",
)  # fmt: skip
SPECIAL = (PAD, UNKNOWN, BEGIN, END, TRACE, ANSWER)
_PIECE = r"\[\?\]|\d+|\\?[a-z]+|[^\sa-z0-9]"
PROMPT = f"{BEGIN}{{question}}{TRACE}{{trace}}{ANSWER}"


def build_tokenizer(texts: Iterable[str], max_number: int) -> Any:
    """A Hugging Face tokenizer over the words of ``texts`` and the numbers 0..``max_number``."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {piece for text in texts for piece in re.findall(_PIECE, text.lower())}
    words = sorted(piece for piece in pieces if not piece.isdigit())
    listed = [*SPECIAL, *(str(number) for number in range(max_number + 1)), *words]
    if "[?]" not in pieces:
        listed.append("[?]")
    vocabulary = {piece: index for index, piece in enumerate(listed)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_PIECE), "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        extra_special_tokens=[TRACE, ANSWER],
        clean_up_tokenization_spaces=False,
    )
