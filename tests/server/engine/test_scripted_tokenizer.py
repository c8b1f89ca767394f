"""The scripted tokenizer: lossless, and a tokenizer in the contract's sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot.control import DEFAULT_RATIOS, POLICY_TOKEN, level_token
from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer

TOKENIZER = ScriptedTokenizer()
TEXT_TAGS = ScriptedTokenizer(tags_as_text=True)
PIECES = ["<think>", "</think>", "<COMP_20>", "<|im_end|>", " the", "\n\n", ">\n", "7", "é🙂", "\\"]
texts = st.text() | st.lists(st.sampled_from(PIECES) | st.characters(codec="utf-8")).map("".join)


@given(texts.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_text_survives(text: str) -> None:
    for tokenizer in (TOKENIZER, TEXT_TAGS):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.id_to_bytes, ids)) == text.encode()


def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a\ufffdb"


def test_half_a_character_decodes_to_a_replacement_character() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("🙂")[:2]) == "\ufffd"


@pytest.mark.parametrize(
    "token", [*map(level_token, DEFAULT_RATIOS), POLICY_TOKEN, "<think>", "</think>"]
)
def test_control_and_think_tokens_are_one_normal_id(token: str) -> None:
    ids = TOKENIZER.encode(token)
    assert ids == [TOKENIZER.get_added_vocab()[token]]
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == token


def test_turn_markers_are_special() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("<|im_start|>a<|im_end|>"), True) == "a"


def test_tags_can_be_text() -> None:
    assert len(TEXT_TAGS.encode("<think>")) > 1
    assert len(TEXT_TAGS.encode("</think>")) > 1
    assert "<think>" not in TEXT_TAGS.get_added_vocab()
    # The tag's last character merges with what follows, as in real vocabularies.
    joined = TEXT_TAGS.encode("</think>") + TEXT_TAGS.encode("\n")
    assert TEXT_TAGS.encode("</think>\n") != joined


def test_the_template_is_chatml() -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    text = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n"
    assert TOKENIZER.apply_chat_template(turns, add_generation_prompt=False) == text
    assert TOKENIZER.apply_chat_template(turns) == text + "<|im_start|>assistant\n"
    opening = ScriptedTokenizer(template_opens_think=True).apply_chat_template(turns)
    assert opening.endswith("<|im_start|>assistant\n<think>\n")


def test_every_id_has_one_name() -> None:
    vocab = TOKENIZER.get_vocab()
    assert sorted(vocab.values()) == list(range(len(TOKENIZER)))
    assert TOKENIZER.convert_tokens_to_ids("<think>") == vocab["<think>"]
    assert TOKENIZER.convert_tokens_to_ids("no such token") is None
