"""Builds the model folder of stage ``base``: random weights, tokenizer, generation defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extracot_training.config.base import BaseModelConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.records import Record, read_rows, rows_file
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, run_stage
from extracot_training.policy.pretrained import new_llama
from extracot_training.stages.base.tokenizer import TEXT_END, build_tokenizer

# The fields that hold text, in any row that is read here.
TEXT_FIELDS = ("question", "reasoning", "solution", "text", "answer")
# What every prompt and reply holds besides the data's own text and the prompt's settings.
FIXED_TEXTS = ("system\nuser\nassistant\n", "\n\n", " ")


class _AnyRow(Record, extra="allow"):
    """A row of any stage, for its texts."""

    @property
    def key(self) -> str:
        return ""  # nothing here goes by it


def run(config: BaseModelConfig, *, force: bool = False) -> StageResult:
    """Stage ``base``."""
    inputs = {f"texts {number}": rows_file(path) for number, path in enumerate(config.inputs)}
    return run_stage("base", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: BaseModelConfig, stage: StageRun) -> Counts:
    import torch

    folder, words, prompt = stage.folder, config.vocabulary, config.prompt
    # Each text once: a compress folder repeats the question in every row.
    texts = list(dict.fromkeys(text for path in config.inputs for text in _texts(path)))
    if not texts:
        raise StageError(f"{config.inputs[0]}: no text in its rows ({', '.join(TEXT_FIELDS)})")
    tokenizer = build_tokenizer(
        texts,
        numbers=words.numbers,
        min_count=words.min_count,
        size=words.size,
        always=(prompt.instruction, prompt.system_prompt or "", *FIXED_TEXTS),
    )
    shape = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = new_llama(
            tokenizer,
            shape,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            initializer_range=shape.initial_spread,
            bos_token_id=None,
        )
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TEXT_END)]
    generation = {
        "eos_token_id": ends,
        "pad_token_id": tokenizer.pad_token_id,
        "do_sample": True,
        "temperature": 1.0,
    }
    write_atomic(folder / "generation_config.json", json.dumps(generation, indent=2) + "\n")
    figures = _figures(model, tokenizer, texts)
    stage.report(_report(figures), figures)
    return figures


def _texts(path: Path) -> Iterator[str]:
    for row in read_rows(path, _AnyRow):
        for name, value in (row.model_extra or {}).items():
            if name in TEXT_FIELDS and isinstance(value, str):
                yield value


def _figures(model: Any, tokenizer: Any, texts: list[str]) -> dict[str, Any]:
    sample = texts[:: max(1, len(texts) // 1000)]
    ids = [id_ for text in sample for id_ in tokenizer.encode(text, add_special_tokens=False)]
    single = {id_ for token, id_ in tokenizer.get_vocab().items() if len(token) == 1}
    spelled = sum(id_ in single and tokenizer.decode([id_]).isalpha() for id_ in ids)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "tokens_per_word": round(len(ids) / max(1, sum(len(t.split()) for t in sample)), 3),
        "spelled_share": round(spelled / max(1, len(ids)), 4),
    }


def _report(figures: dict[str, Any]) -> str:
    return (
        "# A model from scratch\n\n"
        f"{figures['parameters']:,} random weights, {figures['vocabulary']} tokens. On its own "
        f"texts it takes {figures['tokens_per_word']} tokens per word; "
        f"{figures['spelled_share']:.1%} of the tokens are single letters.\n"
    )
