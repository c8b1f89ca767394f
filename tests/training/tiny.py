"""Models small enough for tests: a random encoder, a random causal model, word tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from extracot_training.pipeline.records import Annotation, Trace

QUESTION = "Ana buys 3 pens at 4 dollars each and pays with 20 dollars. How much does she get back?"
TRACE = (
    "Okay, let me think about this. Ana buys 3 pens at 4 dollars each. I need the change.\n\n"
    "The cost of the pens is the number of pens (3) times the price (4). So 3 × 4 = 12.\n\n"
    "The change is what she pays (20) minus the cost (12). That gives 20 - 12 = 8. Hmm, okay.\n\n"
    "Let me double-check this: 8 + 12 = 20. Great, that fits.\n\nSo the answer is 8."
)


def trace(number: int = 0, reasoning: str = TRACE, gold: str = "8") -> Trace:
    return Trace(
        problem_id=f"p{number}",
        sample=0,
        question=QUESTION,
        reasoning=reasoning,
        answer=f"\\boxed{{{gold}}}",
        gold=gold,
        correct=True,
        teacher="test",
    )


def annotation(number: int, keep: list[tuple[int, int]], reasoning: str = TRACE) -> Annotation:
    row = trace(number, reasoning)
    return Annotation(
        problem_id=row.problem_id,
        sample=row.sample,
        question=row.question,
        reasoning=row.reasoning,
        answer=row.answer,
        gold=row.gold,
        keep=keep,
        annotator="test",
    )


def word_tokenizer(*, pad: bool = True, special: bool = True) -> Any:
    """Words, single digits and signs, over the letters a-z alone if it does not know a word."""
    known = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,:;?!()$=+-*/×÷\\{}[]<>"))
    names = ["[UNK]", *(["[CLS]", "[SEP]"] if special else []), *(["[PAD]"] if pad else [])]
    vocabulary = {piece: index for index, piece in enumerate([*names, *known])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d|[^\w\s]|[^\W\d]{1,3}"), "isolated"),
        ]
    )
    extra = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if special else {}
    if pad:
        extra["pad_token"] = "[PAD]"
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", **extra)


def save_encoder(folder: Path, *, positions: int = 96, pad: bool = True) -> Path:
    """A random two-layer BERT with its tokenizer."""
    tokenizer = word_tokenizer(pad=pad)
    torch.manual_seed(5)
    BertForTokenClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=positions,
            hidden_dropout_prob=0.1,
            num_labels=2,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_causal(folder: Path, *, pad: bool = True) -> Path:
    """A random two-layer Llama with its tokenizer."""
    tokenizer = word_tokenizer(pad=pad, special=False)
    torch.manual_seed(6)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=None,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
