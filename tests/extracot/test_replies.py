"""Whole replies for training: what serving prefills, then the model's part, in one layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import Control, ControlTokenError, PromptError, split_reasoning
from tests.examples import examples
from tests.extracot import zoo
from tests.extracot.prompts import CONTROLS, LEVEL, PROBLEM, renderer, text_of
from tests.extracot.test_tokens import TEXTS


@pytest.mark.parametrize("build", zoo.BUILDS)
@pytest.mark.parametrize("template", zoo.TEMPLATES)
@examples(15)
@given(reasoning=TEXTS, answer=TEXTS, control=st.sampled_from(CONTROLS))
def test_training_and_serving_write_the_same_ids(
    build: str, template: str, reasoning: str, answer: str, control: Control
) -> None:
    render = renderer(build, template)
    level = "<COMP_40>" if control == Control.policy() else None
    rendered = render.render(PROBLEM, control)
    if level is not None:
        rendered = render.after_choice(rendered, level)
        assert rendered.prefill_ids == render.render(PROBLEM, Control.level(level)).prefill_ids
    think = None if control == Control.none() else reasoning
    reply = render.reply_ids(control, think, answer, level_token=level)
    prefill = rendered.prefill_ids
    assert reply[: len(prefill)] == prefill
    assert reply[-1] == zoo.tokenizer(build).eos_token_id
    protected = [id_ for id_ in reply[len(prefill) : -1] if id_ in render.protected_ids]
    opens = (
        [render.think_start_id] if control == Control.native() and not rendered.in_reasoning else []
    )
    assert protected == opens + ([] if think is None else [render.think_end_id])


def test_a_reply_is_read_back_as_it_was_written() -> None:
    render = renderer()
    reply = render.reply_ids(Control.policy(), " why \n", "\n\\boxed{2} ", level_token="<COMP_40>")
    assert text_of(reply) == "<COMP_40>\n<think>\nwhy\n</think>\n\n\\boxed{2}<|im_end|>"
    generated = text_of(reply[len(render.render(PROBLEM, LEVEL).prefill_ids) : -1])
    split = split_reasoning(generated, in_reasoning=True)
    assert (split.reasoning, split.answer, split.closed) == ("why", "\\boxed{2}", True)


@pytest.mark.parametrize(
    ("template", "control", "reasoning", "text"),
    [
        ("chatml", Control.native(), "why", "<think>\nwhy\n</think>\n\n2<|im_end|>"),
        ("chatml", Control.native(), None, "2<|im_end|>"),
        ("chatml", Control.none(), None, "<think>\n\n</think>\n\n2<|im_end|>"),
        ("chatml", Control.open(), "why", "<think>\nwhy\n</think>\n\n2<|im_end|>"),
        ("chatml", LEVEL, "", "<COMP_20>\n<think>\n\n</think>\n\n2<|im_end|>"),
        ("deepseek_r1", Control.native(), "why", "why\n</think>\n\n2<|im_end|>"),
        ("deepseek_r1", Control.native(), None, "\n</think>\n\n2<|im_end|>"),
        ("deepseek_r1", Control.none(), None, "\n</think>\n\n2<|im_end|>"),
        ("deepseek_r1", Control.open(), "why", "why\n</think>\n\n2<|im_end|>"),
        ("deepseek_r1", LEVEL, "why", "<COMP_20>\n<think>\nwhy\n</think>\n\n2<|im_end|>"),
    ],
)
def test_whole_replies(template: str, control: Control, reasoning: str | None, text: str) -> None:
    assert text_of(renderer(template=template).reply_ids(control, reasoning, "2")) == text


def test_replies_that_a_control_does_not_allow() -> None:
    render = renderer()
    with pytest.raises(PromptError, match="reasoning: control 'none' has no reasoning"):
        render.reply_ids(Control.none(), "why", "2")
    with pytest.raises(PromptError, match="reasoning: control 'level' needs one"):
        render.reply_ids(LEVEL, None, "2")
    with pytest.raises(ControlTokenError, match="goes with the policy control"):
        render.reply_ids(Control.policy(), "why", "2")
    with pytest.raises(ControlTokenError, match="goes with the policy control"):
        render.reply_ids(LEVEL, "why", "2", level_token="<COMP_20>")
    with pytest.raises(PromptError, match="answer: holds a lone surrogate"):
        render.reply_ids(LEVEL, "why", "\ud800")
