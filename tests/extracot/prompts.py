"""What the tests of prompts share: a renderer for every tokenizer of the zoo, and a problem."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from extracot import Control, Message, PromptRenderer
from tests.extracot import zoo

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
LEVEL = Control.level("<COMP_20>")
CONTROLS = (LEVEL, Control.policy(), Control.native(), Control.none(), Control.open())
PROBLEM = [Message("user", "What is 48 / 2?")]


@functools.cache
def renderer(build: str = "bytes", template: str = "chatml", **options: Any) -> PromptRenderer:
    options = {"instruction": INSTRUCTION, "control_tokens": zoo.CONTROLS, **options}
    return PromptRenderer(zoo.tokenizer(build, template), **options)


def text_of(ids: Sequence[int], build: str = "bytes") -> str:
    return zoo.tokenizer(build).decode(list(ids))
