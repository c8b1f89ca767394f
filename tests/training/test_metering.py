"""All of a reply is metered: reasoning that hides outside its block, and what that is worth."""

from __future__ import annotations

from typing import Any

import pytest

from extracot_training.config.objective import Objective
from extracot_training.generation.rollout.base import PromptMaker, ReplyReader
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.chrpo.choice import level_worth
from extracot_training.stages.chrpo.scoring import RewardScorer, Scored
from extracot_training.stages.chrpo.tasks import Task
from tests.fixtures.tiny_model import build_tiny_model

PROMPT = PromptSettings()
END = "\n</think>\n\n\\boxed{7}<|im_end|>"
OBJECTIVES = [Objective(ngram=400), Objective(kind="chrpo_capped", ngram=400)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, PromptMaker]:
    folder = build_tiny_model(tmp_path_factory.mktemp("metering") / "model")
    tokenizer, tokens = load_policy_tokenizer(str(folder), PROMPT)
    return tokenizer, tokens, PromptMaker(tokenizer, PROMPT)


class Meter:
    """Scores replies of a problem whose whole length is 180 tokens."""

    def __init__(self, tools: tuple[Any, Any, PromptMaker], objective: Objective) -> None:
        self.tokenizer, tokens, maker = tools
        reader = ReplyReader(self.tokenizer, PROMPT, tokens)
        self.scorer = RewardScorer(reader, objective)
        self.objective = objective
        need = float(len(self.ids(END)))
        self.task = Task("p", maker.policy("?"), "7", 0.6, 180.0, None, need)
        self.named = Task("p", maker.level("?", 0.2), "7", 0.2, 180.0, 0.2, need)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def words(self, count: int) -> str:
        """Text of so many tokens."""
        text = "a"
        while len(self.ids(f"{text} a")) <= count:
            text += " a"
        return next(text + end for end in ("", "1", ".") if len(self.ids(text + end)) == count)

    def read(self, text: str, task: Task | None = None) -> Scored:
        return self.scorer.score(task or self.task, self.ids(text))


def honest(meter: Meter, level: str, tokens: int) -> Scored:
    return meter.read(f"<COMP_{level}>\n<think>\n{meter.words(tokens)}{END}")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_reasoning_is_metered_wherever_it_stands(
    tokenizer: tuple[Any, Any, PromptMaker], objective: Objective
) -> None:
    """50 tokens in the block and 130 elsewhere earn no more than 180 in the block: of the same
    label, and of the label that is true."""
    meter = Meter(tokenizer, objective)
    block, rest = meter.words(50), meter.words(130)
    truth, same = honest(meter, "100", 180), honest(meter, "20", 180)
    short = honest(meter, "20", 50)
    assert (truth.tokens, short.tokens) == (180, 50)
    assert short.reward.main > same.reward.main
    hidden = {
        "in the answer": f"<COMP_20>\n<think>\n{block}\n</think>\n\n{rest} \\boxed{{7}}<|im_end|>",
        "in a second block": f"<COMP_20>\n<think>\n{block}\n</think>\n\n<think>\n{rest}{END}",
        "after the answer": f"<COMP_20>\n<think>\n{block}{END.removesuffix('<|im_end|>')} {rest}",
        "as white space": f"<COMP_20>\n<think>\n{block}" + "\n" * 130 + END,
    }
    for where, text in hidden.items():
        found = meter.read(text)
        assert found.result.valid, where
        # Here a line break is a token; elsewhere a space or tags come on top.
        assert found.tokens == 180 if where == "as white space" else found.tokens >= 180, where
        assert found.reward.main <= same.reward.main + 1e-9, where
        worth = level_worth(found.reward, objective)
        assert worth <= level_worth(truth.reward, objective) + 1e-9, where
    before = meter.read(f"<COMP_20>\n{rest}\n<think>\n{block}{END}")
    assert not before.result.valid and before.reward.main == -1.0, "its block opens too late"


def test_a_named_level_is_metered_alike(tokenizer: tuple[Any, Any, PromptMaker]) -> None:
    """The prompt opens the block there; the same reasoning has the same length."""
    meter = Meter(tokenizer, OBJECTIVES[0])
    words = meter.words(36)
    named = meter.read(f"{words}{END}", meter.named)
    assert named.tokens == honest(meter, "20", 36).tokens == 36
    assert named.result == honest(meter, "20", 36).result
    hidden = meter.read(
        f"{words}\n</think>\n\n{meter.words(100)} \\boxed{{7}}<|im_end|>", meter.named
    )
    assert hidden.tokens >= 136


def test_a_short_answer_buys_nothing_back(tokenizer: tuple[Any, Any, PromptMaker]) -> None:
    meter = Meter(tokenizer, OBJECTIVES[0])
    generous = Task("p", meter.task.prompt_ids, "7", 0.6, 180.0, None, meter.task.need + 50)
    found = meter.read(f"<COMP_20>\n<think>\n{meter.words(36)}{END}", generous)
    assert found.tokens == 36


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("<COMP_20>\n<think>\na\n</think>\n\n\\boxed{7}<|im_end|>", True),
        ("<COMP_20><think>a</think>\\boxed{7}<|im_end|>", True),
        ("<COMP_20>\n\n\n<think>\na\n</think>\n\n\\boxed{7}<|im_end|>", True),
        ("<COMP_20>a\n<think>\na\n</think>\n\n\\boxed{7}<|im_end|>", False),
        ("<COMP_20><COMP_40>\n<think>\na\n</think>\n\n\\boxed{7}<|im_end|>", False),
        ("<COMP_20></think><think>\na\n</think>\n\n\\boxed{7}<|im_end|>", False),
        ("a<COMP_20>\n<think>\na\n</think>\n\n\\boxed{7}<|im_end|>", False),
        ("<COMP_20>\n\\boxed{7}<|im_end|>", False),
    ],
)
def test_a_block_opens_right_after_its_level(
    tokenizer: tuple[Any, Any, PromptMaker], text: str, valid: bool
) -> None:
    found = Meter(tokenizer, OBJECTIVES[0]).read(text)
    assert found.result.valid == valid
    assert (found.reward.main == -1.0) != valid
