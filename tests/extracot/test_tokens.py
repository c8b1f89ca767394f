"""Text stays text: no spelling of a protected token becomes its id, and nothing else is lost."""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from extracot import PromptError, Tokenizer
from extracot.tokens import TextEncoder
from tests.extracot import zoo

ADDED = (*zoo.SPECIAL, *zoo.PLAIN, *zoo.DEEPSEEK, "[UNK]", "[SEP]", "<unk>")


def full_width(text: str) -> str:
    """The same text in full-width forms, which NFKC turns back."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def disguised(token: str) -> list[str]:
    """Spellings that some normaliser turns into the token."""
    return [
        token.lower(),
        token.upper(),
        full_width(token),
        token.replace("O", "Ó").replace("t", "t\u0301"),
        token[:3] + "\x00" + token[3:],
        token[:3] + "\u200b" + token[3:],
        unicodedata.normalize("NFD", token),
        token.replace("_", "\uff3f"),
    ]


PIECES = st.one_of(
    st.sampled_from(ADDED),
    st.sampled_from([spelling for token in ADDED for spelling in disguised(token)]),
    st.builds(
        lambda token, a, b: token[min(a, b) : max(a, b)],
        st.sampled_from(ADDED),
        st.integers(0, 12),
        st.integers(0, 12),
    ),
    st.sampled_from(
        ["\n", " ", "  ", "<", ">", "|>", "<|", "\ufb01", "\u3300", "é", "🙂", "▁", "Ġ"]
    ),
    st.text(max_size=5),
)
TEXTS = st.lists(PIECES, max_size=10).map("".join)


@functools.cache
def encoder(build: str) -> TextEncoder:
    return TextEncoder(zoo.tokenizer(build), reserved=("<think>", "</think>", *zoo.CONTROLS))


@pytest.mark.parametrize("build", zoo.BUILDS)
@given(text=TEXTS)
@example(text="<<COMP_20>>")
@example(text="<|im_start|><|im_end|></think><think>")
@example(text="＜ＣＯＭＰ＿２０＞ and <comp_policy>")
@example(text="</think" + "</think>" * 3 + "/think>")
def test_no_text_becomes_a_protected_id(build: str, text: str) -> None:
    encode = encoder(build)
    ids = encode.encode_text(text)
    assert encode.protected_ids.isdisjoint(ids)
    if build in zoo.LOSSLESS:
        assert zoo.tokenizer(build).decode(ids) == text


@pytest.mark.parametrize("build", zoo.BUILDS)
def test_the_spoofs_do_work_without_protection(build: str) -> None:
    """The tokenizers of these tests are spoofable, or they would show nothing."""
    tokenizer, encode = zoo.tokenizer(build), encoder(build)
    assert not encode.protected_ids.isdisjoint(tokenizer.encode("a <COMP_20> b"))
    if build not in ("bytes", "llama_legacy"):
        spoof = "<comp_20>" if build == "word_piece" else full_width("<COMP_20>")
        assert not encode.protected_ids.isdisjoint(tokenizer.encode(f"a {spoof} b"))
        assert encode.protected_ids.isdisjoint(encode.encode_text(f"a {spoof} b"))


@pytest.mark.parametrize("build", zoo.BUILDS)
def test_every_added_token_is_protected_but_the_unknown(build: str) -> None:
    tokenizer, encode = zoo.tokenizer(build), encoder(build)
    open_ids = {id_ for id_ in tokenizer.get_added_vocab().values()} - encode.protected_ids
    assert open_ids <= {getattr(tokenizer, "unk_token_id", None)}


def assume_known(tokenizer: Tokenizer, text: str) -> None:
    """SmolLM2's vocabulary lacks some bytes, and drops the control codes made of them."""
    assume(all(tokenizer.decode(tokenizer.encode(c)) == c for c in text))


@given(text=TEXTS)
def test_smollm2(smollm2: Tokenizer, text: str) -> None:
    assume_known(smollm2, text)
    encode = TextEncoder(smollm2)
    assert encode.protected_ids == set(smollm2.get_added_vocab().values())
    ids = encode.encode_text(text)
    assert encode.protected_ids.isdisjoint(ids)
    assert smollm2.decode(ids) == text


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<")))
def test_ordinary_text_is_encoded_as_ever(text: str) -> None:
    assert encoder("bytes").encode_text(text) == zoo.tokenizer("bytes").encode(text)


def test_a_spoof_changes_only_its_own_encoding() -> None:
    tokenizer = zoo.tokenizer("bytes")
    before, after = "Natalia sold clips to 48 of her friends ", " and then half as many in May."
    ids = encoder("bytes").encode_text(f"{before}<COMP_20>{after}")
    assert ids == tokenizer.encode(f"{before}<") + tokenizer.encode(f"COMP_20>{after}")


@pytest.mark.parametrize("build", ["unigram_always", "unigram_first", "llama_legacy"])
def test_no_space_is_put_in_front_of_a_piece(build: str) -> None:
    tokenizer, encode = zoo.tokenizer(build), encoder(build)
    ids = encode.encode_text("Natalia<COMP_20>sold")
    assert tokenizer.decode([*tokenizer.encode("x"), *ids]).strip() == "xNatalia<COMP_20>sold"


@pytest.mark.parametrize("build", zoo.BUILDS)
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "<COMP_20>\udc00"])
def test_lone_surrogates_are_refused(build: str, text: str) -> None:
    with pytest.raises(PromptError, match="surrogate"):
        encoder(build).encode_text(text)


def test_an_unknown_token_spelled_out_is_text() -> None:
    tokenizer = zoo.tokenizer("word_piece")
    unknown = tokenizer.get_vocab()["[UNK]"]
    assert tokenizer.encode("[UNK]", add_special_tokens=False) == [unknown]
    assert unknown not in encoder("word_piece").encode_text("a [UNK] b")
    assert unknown in encoder("word_piece").encode_text("a \U0001f642 b")


def test_an_unknown_token_that_ends_replies_is_never_produced() -> None:
    backend = Backend.from_str(zoo.tokenizer("word_piece").backend_tokenizer.to_str())  # type: ignore[attr-defined]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", eos_token="[UNK]"
    )
    encode = TextEncoder(tokenizer)
    assert encode.encode_text("sold clips") == tokenizer.encode("sold clips")
    with pytest.raises(PromptError, match="only as a reserved token"):
        encode.encode_text("sold \U0001f642")


class Counting:
    """A tokenizer that counts the characters and the calls it is asked to encode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.calls = 0
        self.characters = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, **options: Any) -> list[int]:
        self.calls += 1
        self.characters += len(text)
        return list(self._tokenizer.encode(text, **options))


@pytest.mark.parametrize(
    ("build", "spoof"),
    [("bytes", "<COMP_20>"), ("bytes_nfkc", full_width("<COMP_20>")), ("word_piece", "<comp_20>")],
)
def test_many_spoofs_cost_no_more_than_long_text(build: str, spoof: str) -> None:
    counting = Counting(zoo.tokenizer(build))
    encode = TextEncoder(counting, reserved=zoo.CONTROLS)
    text = spoof * 2_000
    counting.calls = counting.characters = 0
    ids = encode.encode_text(text)
    assert encode.protected_ids.isdisjoint(ids)
    assert counting.calls <= 2_000 + 3
    assert counting.characters <= 3 * len(text)


def test_a_normaliser_that_nobody_foresaw() -> None:
    """The last resort: what is written is not what any usual normaliser would read."""
    backend = Backend.from_str(zoo.plain_tokenizer().backend_tokenizer.to_str())  # type: ignore[attr-defined]
    backend.normalizer = normalizers.Replace("Q", "COMP")
    backend.add_tokens(
        [AddedToken("<COMP_20>", normalized=True), AddedToken("ffi", normalized=True)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    encode = TextEncoder(tokenizer)
    assert not encode.protected_ids.isdisjoint(tokenizer.encode("so <Q_20> it is"))
    ids = encode.encode_text("so <Q_20> it is" * 20)
    assert encode.protected_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == "so <COMP_20> it is" * 20


def test_reserved_words_of_the_vocabulary_are_protected_too() -> None:
    tokenizer = zoo.plain_tokenizer()
    word = "Ġreason"
    assert word in tokenizer.get_vocab()
    encode = TextEncoder(tokenizer, reserved=(" reason",))
    assert tokenizer.get_vocab()[word] in encode.protected_ids
    ids = encode.encode_text("Please reason step by step")
    assert encode.protected_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == "Please reason step by step"


def test_added_white_space_and_single_characters_mean_themselves() -> None:
    backend = Backend.from_str(zoo.plain_tokenizer().backend_tokenizer.to_str())  # type: ignore[attr-defined]
    backend.add_tokens(["   ", "\n\n", "☃"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    ids = TextEncoder(tokenizer).encode_text("a   b\n\nc☃")
    assert ids == tokenizer.encode("a   b\n\nc☃")
    assert {tokenizer.convert_tokens_to_ids(t) for t in ("   ", "\n\n", "☃")} <= set(ids)
