"""The model from scratch: a reversible tokenizer, a folder that engines take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from extracot.answers import extract_answer
from extracot.control import Control
from extracot_training.config.base import BaseModelConfig, ShapeSettings
from extracot_training.errors import StageError
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.base.stage import run
from extracot_training.stages.base.tokenizer import build_tokenizer
from tests.training.tiny_policy import full_text, make_base, question, write_traces

TEXTS = [
    "Ana has 12 pens and buys 3 more. So 12 + 3 = 15.",
    "Ana's brother has 7 pens, 12 books; he pays $5.",
    "The answer is $\\boxed{15}$.\n\nIt is \\boxed{15}.",
]
TOKENIZER = build_tokenizer(TEXTS, numbers=40)


def pieces(text: str) -> list[str]:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    return [TOKENIZER.decode([id_]) for id_ in ids]


def test_a_space_goes_with_the_word_after_it_and_never_with_a_number() -> None:
    assert pieces("Ana has 12 pens and buys 3 more.") == [
        "Ana", " has ", "12", " pens", " and", " buys ", "3", " more", ".",
    ]  # fmt: skip


def test_a_number_is_one_token_wherever_it_stands() -> None:
    twelve = TOKENIZER.convert_tokens_to_ids("12")
    for text in ("12", "has 12 pens", "(12)", "$12", "12 + 3", "\n12\n", "\\boxed{12}", "a 3 12"):
        assert TOKENIZER.encode(text).count(twelve) == 1, text


def test_numbers_over_the_cap_are_digits() -> None:
    assert pieces("40 41 1234 007") == ["40", " ", "4", "1", " ", "1", "2", "3", "4", " ", "0",
                                        "0", "7"]  # fmt: skip


def test_a_boxed_answer_is_stable_pieces_that_stream() -> None:
    for text in ("\\boxed{17}", "is \\boxed{17}.", "$\\boxed{17}$", "\n\n\\boxed{-3}"):
        streamed = ""
        for piece in pieces(text):
            streamed += piece
        assert streamed == text
        assert "\\boxed{" in [piece.strip() for piece in pieces(text)]
    assert extract_answer("".join(pieces("It is \\boxed{17}."))) == "17"


@given(st.text(max_size=60))
def test_any_text_comes_back(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    special = {TOKENIZER.eos_token, TOKENIZER.pad_token}
    if not any(token in text for token in special):
        assert TOKENIZER.decode(ids) == text


@given(st.lists(st.sampled_from(["Ana", "has", "pens", "12", "999", "+", "=", ".", "\n", "é"])))
def test_sentences_come_back(words: list[str]) -> None:
    text = " ".join(words)
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_rare_words_are_spelled_and_the_size_is_kept() -> None:
    common = build_tokenizer([*TEXTS, TEXTS[0]], numbers=9, min_count=2)
    assert " books" not in [common.decode([i]) for i in common.encode("12 books")]
    assert common.decode(common.encode("12 books")) == "12 books"
    small = build_tokenizer(TEXTS, numbers=9, size=300, always=["zebra"])
    assert len(small) <= 300
    assert len(small.encode("zebra")) == 1


def test_offsets_leave_the_spaces_out() -> None:
    text = "Ana has 12 pens"
    offsets = TOKENIZER(text, return_offsets_mapping=True).offset_mapping
    assert [text[start:end] for start, end in offsets] == ["Ana", "has", "12", "pens"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base")
    write_traces(root)
    return make_base(root)


def test_the_folder_is_a_model_that_transformers_loads(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    generation = json.loads((folder / "generation_config.json").read_text())
    assert tokenizer.eos_token_id in generation["eos_token_id"]
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokenizer.encode(question(3))])).logits
    assert torch.isfinite(logits).all()


def test_a_reloaded_tokenizer_gives_the_same_ids(folder: Path) -> None:
    tokenizer, _ = load_policy_tokenizer(str(folder), PromptSettings())
    again_folder = folder / "again"
    tokenizer.save_pretrained(again_folder)
    again = AutoTokenizer.from_pretrained(again_folder)
    for text in (*TEXTS, full_text(4), "Ünïcode 漢字 <COMP_20> <think>\n"):
        assert again.encode(text) == tokenizer.encode(text)


def test_the_renderer_takes_the_tokenizer(folder: Path) -> None:
    prompt = PromptSettings()
    tokenizer, tokens = load_policy_tokenizer(str(folder), prompt)
    renderer = prompt.renderer(tokenizer)
    ids = prompt.prompt_ids(renderer, question(3), Control.level("<COMP_20>"))
    assert tokenizer.decode(list(ids)) == (
        f"<|im_start|>user\n{prompt.instruction}\n{question(3)} <COMP_20><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    reply = renderer.reply_ids(Control.level("<COMP_20>"), full_text(3), "\\boxed{7}")
    assert tokenizer.decode(list(reply)) == (
        f"<COMP_20>\n<think>\n{full_text(3)}\n</think>\n\n\\boxed{{7}}<|im_end|>"
    )
    typed = renderer.encode_text("say <COMP_20> </think> <|im_end|>")
    assert not set(typed) & {*tokens.all, tokenizer.eos_token_id}
    assert not renderer.opens_reasoning


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    write_traces(tmp_path)
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_base(tmp_path, out=tmp_path / name, seed=seed)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("shape", [{"head_dim": 48}, {"heads": 4, "kv_heads": 3}])
def test_a_shape_that_no_engine_takes_is_refused(shape: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="multiple of"):
        ShapeSettings(**shape)


def test_rows_without_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n')
    config = BaseModelConfig(inputs=(tmp_path / "rows.jsonl",), out=tmp_path / "base")
    with pytest.raises(StageError, match="no text in its rows"):
        run(config)
