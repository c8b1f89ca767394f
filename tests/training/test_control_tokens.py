"""Control tokens in tokenizers, and rows for them in models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.trainer_utils import validate_quantization_for_training

from extracot.control import DEFAULT_RATIOS, POLICY_TOKEN
from extracot.errors import ControlTokenError
from extracot_training.errors import StageError
from extracot_training.policy.control_tokens import (
    LENGTHS,
    NOISE,
    grow_embeddings,
    prepare_tokenizer,
    seed_words,
    single_id,
)
from extracot_training.policy.loading import (
    check_same_tokenizer,
    load_policy_model,
    load_policy_tokenizer,
)
from extracot_training.policy.pretrained import PretrainedError, load_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings
from tests.training.tiny import save_causal, word_tokenizer

NAMES = ["<think>", "</think>", "<COMP_20>", "<COMP_40>", "<COMP_60>", "<COMP_80>", "<COMP_100>"]


def model_with(rows: int, *, tied: bool, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=tied,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_tokens_are_added_in_one_order_as_normal_tokens_of_one_id() -> None:
    tokenizer = word_tokenizer()
    before = len(tokenizer)
    tokens = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
    assert tokenizer.convert_ids_to_tokens(list(tokens.all)) == [*NAMES, POLICY_TOKEN]
    assert tokens.all == tokens.added == tuple(range(before, before + 8))
    text = " ".join([*NAMES, POLICY_TOKEN])
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == list(tokens.all)
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    assert all(name in decoded for name in NAMES)


def test_a_second_preparation_adds_nothing() -> None:
    tokenizer = word_tokenizer()
    first = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
    again = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
    assert again.added == ()
    assert again.all == first.all


def test_tokens_that_are_there_keep_their_ids() -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_tokens([AddedToken("</think>", normalized=False, special=False)])
    there = len(tokenizer) - 1
    tokens = prepare_tokenizer(tokenizer, (0.5, 1.0), policy=False)
    assert tokens.think_end == there
    assert tokens.think_start == there + 1
    assert there not in tokens.added
    assert tokens.policy is None
    assert len(tokens.added) == 3


def test_a_token_that_is_special_is_refused() -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<COMP_40>"]})
    with pytest.raises(ControlTokenError, match="<COMP_40> is lost when special tokens"):
        prepare_tokenizer(tokenizer, DEFAULT_RATIOS)


def test_a_token_of_several_ids_is_named() -> None:
    with pytest.raises(ControlTokenError, match=r"<COMP_20> is not exactly one id"):
        single_id(word_tokenizer(), "<COMP_20>")


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_mean_and_a_little_noise(tied: bool) -> None:
    tokenizer = word_tokenizer()
    model = model_with(len(tokenizer), tied=tied)
    old = model.get_input_embeddings().weight.detach().clone()
    old_out = model.get_output_embeddings().weight.detach().clone()
    tokens = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
    assert grow_embeddings(model, tokenizer, tokens.added, seed=5) == 8
    for weight, before in (
        (model.get_input_embeddings().weight, old),
        (model.get_output_embeddings().weight, old_out),
    ):
        assert weight.shape[0] == len(tokenizer)
        assert torch.equal(weight[: len(before)], before)
        rows = weight[list(tokens.added)]
        assert (rows - before.mean(dim=0)).abs().max() < 5 * NOISE * before.std()
        assert len({tuple(row.tolist()) for row in rows}) == 8, "rows must differ"
    same = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert same is tied


def test_spare_rows_are_initialised_and_nothing_shrinks() -> None:
    tokenizer = word_tokenizer()
    rows = len(tokenizer) + 40
    model = model_with(rows, tied=True)
    known = len(tokenizer)
    with torch.no_grad():
        model.get_input_embeddings().weight[known:] = 100.0  # spare rows, never trained
    tokens = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
    assert grow_embeddings(model, tokenizer, tokens.added, seed=5) == 0
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == rows
    assert weight[list(tokens.added)].abs().max() < 1.0, "spare rows must not count in the mean"
    assert weight[-1].min() == 100.0


def test_rows_depend_on_the_seed_alone() -> None:
    made = []
    for seed in (5, 5, 6):
        tokenizer = word_tokenizer()
        model = model_with(len(tokenizer), tied=True)
        tokens = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
        torch.manual_seed(seed * 1000 + len(made))
        grow_embeddings(model, tokenizer, tokens.added, seed=seed)
        made.append(model.get_input_embeddings().weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_model_that_knows_the_tokens_is_left_alone(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(special=False)
    tokenizer.eos_token = "[PAD]"
    model = model_with(len(tokenizer), tied=True)
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    first, prepared, tokens = load_policy_model(str(tmp_path), PromptSettings(), seed=1)
    assert len(tokens.added) == 8
    first.save_pretrained(tmp_path)
    prepared.save_pretrained(tmp_path)
    again, _, tokens = load_policy_model(str(tmp_path), PromptSettings(), seed=2)
    assert tokens.added == ()
    assert torch.equal(again.get_input_embeddings().weight, first.get_input_embeddings().weight)
    assert again.training


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    save_causal(tmp_path)
    with pytest.raises(PretrainedError, match="no end token"):
        load_policy_tokenizer(str(tmp_path), PromptSettings())


def test_different_tokenizers_are_told_apart() -> None:
    one, two = word_tokenizer(), word_tokenizer()
    check_same_tokenizer(one, two, what="x")
    two.add_tokens(["extra"])
    with pytest.raises(ControlTokenError, match=r"mix and model: 1 tokens differ.*extra"):
        check_same_tokenizer(one, two, what="mix and model")


def test_the_bundled_model_takes_the_tokens() -> None:
    tokenizer = load_tokenizer("bundled:smollm2")
    tokens = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
    assert tokens.added == tuple(range(49152, 49160))
    PromptSettings().renderer(tokenizer)


def test_the_bundled_model_can_be_trained() -> None:
    """It comes from a GGUF file, and trainers refuse what looks quantised."""
    model, tokenizer, _ = load_policy_model("bundled:smollm2", PromptSettings(), seed=1)
    validate_quantization_for_training(model)
    assert not hasattr(model.config, "quantization_config")
    assert all(weight.requires_grad for weight in model.parameters())
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) == 49152 + 8
    # As the vocabulary was made, white space before a number stays apart from it.
    assert tokenizer.tokenize("a  42") == ["a", "ĠĠ", "4", "2"]


def test_prompt_settings_survive_a_file(tmp_path: Path) -> None:
    settings = PromptSettings(system_prompt="Be brief.", ratios=(0.5, 1.0), policy=False)
    settings.save(tmp_path)
    assert PromptSettings.load(tmp_path) == settings
    assert settings.control_tokens == ("<COMP_50>", "<COMP_100>")
    with pytest.raises(StageError, match=r"no renderer\.json"):
        PromptSettings.load(tmp_path / "elsewhere")
    (tmp_path / "renderer.json").write_text('{"ratios": [0.4, 0.2]}')
    with pytest.raises(StageError, match="'ratios'"):
        PromptSettings.load(tmp_path)


@pytest.mark.parametrize("ratios", [DEFAULT_RATIOS, (0.05, 0.1, 0.15, 0.5, 1.0)])
def test_every_control_token_has_a_word_of_its_own(ratios: tuple[float, ...]) -> None:
    tokens = prepare_tokenizer(word_tokenizer(), ratios)
    words = seed_words(tokens, ratios)
    assert set(words) == set(tokens.all) and len(set(words.values())) == len(words)
    lengths = [LENGTHS.index(words[id_]) for id_ in tokens.levels]
    assert lengths == sorted(lengths) and lengths[-1] == len(LENGTHS) - 1


def test_many_levels_may_share_a_word() -> None:
    ratios = tuple(n / 20 for n in range(1, 21))
    words = seed_words(prepare_tokenizer(word_tokenizer(), ratios), ratios)
    assert len(words) == 23 and set(LENGTHS) < set(words.values())


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_start_from_their_words(tied: bool) -> None:
    tokenizer = word_tokenizer()
    model = model_with(len(tokenizer), tied=tied)
    matrices = (model.get_input_embeddings(), model.get_output_embeddings())
    old = [matrix.weight.detach().clone() for matrix in matrices]
    tokens = prepare_tokenizer(tokenizer, DEFAULT_RATIOS)
    # The fourth's has two tokens, the last but one's is unknown; the last two are alike.
    words = dict(zip(tokens.all, ["a", "b", "c", "d e", "f", "g", "xyz", "g"], strict=True))
    assert grow_embeddings(model, tokenizer, tokens.added, seed=5, words=words) == 8
    for before, module in zip(old, (model.get_input_embeddings(), model.get_output_embeddings()),
                              strict=True):  # fmt: skip
        for id_, word in words.items():
            pieces = tokenizer.encode(word, add_special_tokens=False)
            near = before[pieces].mean(dim=0) if word != "xyz" else before.mean(dim=0)
            assert (module.weight[id_] - near).abs().max() < 5 * NOISE * before.std()
        rows = module.weight[list(tokens.added)]
        assert len({tuple(row.tolist()) for row in rows}) == 8, "rows must differ"
