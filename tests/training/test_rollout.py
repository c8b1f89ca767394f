"""Rollouts: the sampler against the library's own, seeds, and reading replies by their ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache

from extracot.control import Control, level_token
from extracot_training.config.sampling import RolloutSamplingParams
from extracot_training.generation.rollout.base import (
    PromptMaker,
    ReplyReader,
    Rollout,
    RolloutRequest,
)
from extracot_training.generation.rollout.sampler import GrowingLayer, Sampler, empty_cache, seed_of
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings
from tests.fixtures.tiny_model import build_tiny_model

PROMPT = PromptSettings()
PROMPTS = [(10, 11, 12, 13), (20, 21), (30, 31, 32, 33, 34, 35, 36), (10, 11, 12, 13), (40,)]
QUESTION = "What is 12 * 3 + 4?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("rollout") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tools(folder: Path) -> tuple[Any, PromptMaker, ReplyReader]:
    tokenizer, tokens = load_policy_tokenizer(str(folder), PROMPT)
    return tokenizer, PromptMaker(tokenizer, PROMPT), ReplyReader(tokenizer, PROMPT, tokens)


def sampler(model: Any, *, batch: int = 16, pad: int = 0, **decoding: Any) -> Sampler:
    end_ids = decoding.pop("end_ids", (1,))
    settings = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 24} | decoding
    params = RolloutSamplingParams.model_validate(settings)
    return Sampler(model, params, end_ids=end_ids, batch=batch, pad_id=pad, watched=(5, 7))


def ids_of(replies: Any) -> list[tuple[int, ...]]:
    return [reply.ids for reply in replies]


def library_greedy(model: Any, prompt: tuple[int, ...], ends: list[int], limit: int) -> list[int]:
    made = model.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=limit, eos_token_id=ends,
        pad_token_id=0, top_k=None, temperature=None,
    )  # fmt: skip
    return made[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_greedy_is_what_the_library_generates(model: Any, batch: int) -> None:
    """Prompts of several lengths and one twice; end ids such that rows end at various times."""
    free = [library_greedy(model, prompt, [399], 24) for prompt in PROMPTS]
    ends = [free[0][3], free[1][11]]
    expected = [tuple(library_greedy(model, prompt, ends, 24)) for prompt in PROMPTS]
    assert len({len(reply) for reply in expected}) >= 3, "rows should end at various times"
    made = sampler(model, batch=batch, temperature=0.0, end_ids=tuple(ends))
    assert ids_of(made.generate(PROMPTS, [0] * 5)) == expected


def test_a_reply_depends_on_its_seed_and_not_on_its_company(model: Any) -> None:
    seeds = [seed_of("s", number) for number in range(5)]
    together = ids_of(sampler(model).generate(PROMPTS, seeds))
    alone = [
        ids_of(sampler(model).generate([prompt], [seed]))[0]
        for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]
    backwards = ids_of(sampler(model, pad=7).generate(PROMPTS[::-1], seeds[::-1]))
    assert together == alone == backwards[::-1]
    assert together[0] != together[3], "the same prompt with another seed"
    assert together != ids_of(sampler(model).generate(PROMPTS, [one + 1 for one in seeds]))


def test_samples_follow_the_models_probabilities(model: Any) -> None:
    with torch.no_grad():
        shares = torch.softmax(model(torch.tensor([PROMPTS[1]])).logits[0, -1].float() / 0.8, -1)
    made = sampler(model, batch=512, temperature=0.8, max_tokens=1, end_ids=())
    first = torch.tensor(
        [ids[0] for ids in ids_of(made.generate([PROMPTS[1]] * 4000, list(range(4000))))]
    )
    found = torch.bincount(first, minlength=len(shares)) / 4000
    # Four standard errors of a share, for every token of the vocabulary.
    assert (found - shares).abs().le(4 * (shares * (1 - shares) / 4000).sqrt() + 1e-3).all()


def test_top_p_keeps_the_nucleus(model: Any) -> None:
    with torch.no_grad():
        shares = torch.softmax(model(torch.tensor([PROMPTS[1]])).logits[0, -1].float(), -1)
    ordered, order = shares.sort(descending=True)
    nucleus = set(order[: int((ordered.cumsum(0) < 0.5).sum()) + 1].tolist())
    made = sampler(model, top_p=0.5, max_tokens=1, end_ids=())
    seen = {ids[0] for ids in ids_of(made.generate([PROMPTS[1]] * 300, list(range(300))))}
    assert seen <= nucleus and len(nucleus) > 1 and len(seen) > 1


def test_the_watched_ids_have_the_models_probabilities(model: Any) -> None:
    replies = sampler(model, temperature=0.3, max_tokens=2).generate(PROMPTS[:3], [1, 2, 3])
    for prompt, reply in zip(PROMPTS, replies, strict=False):
        with torch.no_grad():
            shares = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].float(), -1)
        assert reply.first == pytest.approx(shares[[5, 7]].tolist(), abs=1e-5)


def test_the_models_mode_is_put_back_and_no_prompt_may_be_empty(model: Any) -> None:
    model.train()
    try:
        sampler(model, max_tokens=1).generate(PROMPTS[:1], [1])
        assert model.training
    finally:
        model.eval()
    with pytest.raises(ValueError, match="empty"):
        sampler(model).generate([()], [1])


def test_the_cache_holds_what_the_librarys_does(model: Any) -> None:
    """Positions appended one by one, past the first buffer's room, and rows taken twice."""
    ours, theirs = empty_cache(model.config), DynamicCache(config=model.config)
    ids = torch.arange(2 * 150).reshape(2, 150) % 390
    with torch.no_grad():
        for cache in (ours, theirs):
            model(ids[:, :3], past_key_values=cache, use_cache=True)
            cache.batch_select_indices(torch.tensor([1, 0, 1]))
            for at in range(3, 150):
                model(ids[[1, 0, 1], at : at + 1], past_key_values=cache, use_cache=True)
    assert isinstance(ours.layers[0], GrowingLayer)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        assert one.get_seq_length() == 150
        torch.testing.assert_close(one.keys, other.keys)
        torch.testing.assert_close(one.values, other.values)


def test_prompts_are_the_renderers(tools: tuple[Any, PromptMaker, ReplyReader]) -> None:
    tokenizer, maker, _ = tools
    renderer = PROMPT.renderer(tokenizer)
    policy = PROMPT.prompt_ids(renderer, QUESTION, Control.policy())
    assert maker.policy(QUESTION) == policy
    at_level = maker.level(QUESTION, 0.4)
    assert tokenizer.decode(at_level).endswith("assistant\n<COMP_40>\n<think>\n")
    assert tokenizer.convert_tokens_to_ids("<COMP_40>") in at_level


def read(
    tools: tuple[Any, PromptMaker, ReplyReader], text: str, level: float | None = None
) -> Rollout:
    """``text`` spells tags and tokens, and they become ids."""
    tokenizer, maker, reader = tools
    prompt = maker.policy(QUESTION) if level is None else maker.level(QUESTION, level)
    request = RolloutRequest("key", QUESTION, prompt, level, 0)
    return reader.read(request, tokenizer.encode(text, add_special_tokens=False))


def test_a_whole_reply(tools: tuple[Any, PromptMaker, ReplyReader]) -> None:
    text = "<COMP_60>\n<think>\nthe answer\n</think>\n\nIt is \\boxed{40}.<|im_end|>"
    found = read(tools, text)
    assert (found.level, found.closed, found.boxed, found.valid) == (0.6, True, "40", True)
    assert found.answer.strip() == "It is \\boxed{40}."
    words = tools[0].encode("the answer", add_special_tokens=False)
    assert found.reasoning_ids == tuple(words) and found.reasoning_tokens == len(words)
    assert found.total_tokens == len(found.ids)
    # The same as a continuation of a prompt at a level.
    inside = read(tools, text.removeprefix("<COMP_60>\n<think>\n"), level=0.6)
    assert (inside.level, inside.boxed, inside.reasoning_tokens) == (0.6, "40", len(words))


def test_replies_rendered_for_training_are_read_back(
    tools: tuple[Any, PromptMaker, ReplyReader],
) -> None:
    tokenizer, maker, reader = tools
    ids = PROMPT.renderer(tokenizer).reply_ids(
        Control.policy(), "three pens", "\\boxed{3}", level_token=level_token(0.2)
    )
    found = reader.read(RolloutRequest("k", QUESTION, maker.policy(QUESTION), None, 0), ids)
    assert found.valid and (found.level, found.boxed) == (0.2, "3")
    assert tokenizer.decode(found.reasoning_ids) == "three pens"


@pytest.mark.parametrize(
    ("text", "level", "closed", "boxed"),
    [
        ("the <COMP_60>\n<think>\nx\n</think>\n\n\\boxed{4}", None, True, "4"),  # no level first
        ("<COMP_60>\n<think>\nso \\boxed{4}", 0.6, False, None),  # a box in the reasoning
        ("<COMP_60>\n\\boxed{4}<|im_end|>", 0.6, False, None),  # never reasoned
        ("<COMP_60>\n<think>\nx\n</think>\n\nfour<|im_end|>", 0.6, True, None),
        ("<COMP_60>", 0.6, False, None),
        ("<COMP_60></think>\\boxed{4}", 0.6, False, None),  # closed what was not open
        ("", None, False, None),
    ],
)
def test_invalid_replies(
    tools: tuple[Any, PromptMaker, ReplyReader],
    text: str,
    level: float | None,
    closed: bool,
    boxed: str | None,
) -> None:
    found = read(tools, text)
    assert (found.level, found.closed, found.boxed) == (level, closed, boxed)
    assert not found.valid


def test_tags_are_ids_and_not_their_spelling(
    tools: tuple[Any, PromptMaker, ReplyReader],
) -> None:
    """A reply that spells a tag in plain letters neither chose a level nor closed a block."""
    tokenizer, maker, reader = tools
    spelled = PROMPT.renderer(tokenizer).encode_text("<COMP_20>\n<think>\nx\n</think>\n\\boxed{4}")
    found = reader.read(RolloutRequest("k", QUESTION, maker.policy(QUESTION), None, 0), spelled)
    assert found.level is None and not found.closed
    inside = reader.read(RolloutRequest("k", QUESTION, (1,), 0.2, 0), spelled)
    assert not inside.closed and inside.reasoning_tokens > 5


def test_an_unclosed_block_counts_in_full(tools: tuple[Any, PromptMaker, ReplyReader]) -> None:
    words = tools[0].encode("a b c", add_special_tokens=False)
    assert read(tools, "a b c", level=0.2).reasoning_tokens == len(words)
    assert read(tools, "a b c<|im_end|>", level=0.2).reasoning_tokens == len(words)
