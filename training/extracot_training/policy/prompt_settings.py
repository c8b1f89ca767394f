"""How a model was trained to be prompted: ``renderer.json`` beside its weights.

Every stage from ``mix`` on renders by these settings, so that training, rollouts, evaluation and
the server's budget card agree. Knows the renderer and the spelling of levels; knows no stage.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator

from extracot.control import DEFAULT_RATIOS, POLICY_TOKEN, Control, level_token
from extracot.errors import ControlTokenError
from extracot.prompt import Message, PromptRenderer, Role, ThinkTags
from extracot_training.errors import StageError
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.records import read_json
from extracot_training.pipeline.settings import Section

RENDERER_FILENAME = "renderer.json"
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."

Level = Annotated[float, Field(gt=0.0, le=1.0)]


class PromptSettings(Section):
    """Instruction, system prompt, think tags and levels of a checkpoint.

    ``ratios`` are increasing shares of level 1.0's reasoning; ``policy`` says whether the policy
    token is trained too.
    """

    instruction: str = Field(INSTRUCTION, description="precedes the problem, on a line of its own")
    system_prompt: str | None = Field(None, description="system message, if any")
    think_start: str = Field("<think>", min_length=1, description="opens the reasoning")
    think_end: str = Field("</think>", min_length=1, description="closes the reasoning")
    ratios: tuple[Level, ...] = Field(DEFAULT_RATIOS, min_length=1, description="trained levels")
    policy: bool = Field(True, description="train the policy token")
    day: date = Field(
        date(2025, 1, 1),
        description="what a chat template that writes the date is told, whenever a stage runs",
    )

    @field_validator("ratios")
    @classmethod
    def _increasing(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if list(ratios) != sorted(set(ratios)):
            raise ValueError(f"ratios {list(ratios)}: want them increasing, none twice")
        for ratio in ratios:
            try:
                level_token(ratio)
            except ControlTokenError as error:
                raise ValueError(str(error)) from error
        return ratios

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``renderer.json`` of a folder. Raises :class:`StageError` if missing or broken."""
        try:
            return read_json(folder / RENDERER_FILENAME, cls)
        except FileNotFoundError as error:
            raise StageError(
                f"{folder}: no {RENDERER_FILENAME}; want a folder of stage mix, sft or chrpo"
            ) from error

    def save(self, folder: Path) -> None:
        """Write ``renderer.json`` into a folder, atomically."""
        write_atomic(folder / RENDERER_FILENAME, self.model_dump_json(indent=2) + "\n")

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Level tokens in the order of ``ratios``, then the policy token if it is trained."""
        return (*map(level_token, self.ratios), *((POLICY_TOKEN,) if self.policy else ()))

    def renderer(self, tokenizer: Any) -> PromptRenderer:
        """The renderer for a tokenizer that has the tokens.

        Raises :class:`extracot.errors.ControlTokenError` if a control token is not one id.
        """
        return PromptRenderer(
            tokenizer,
            tags=ThinkTags(self.think_start, self.think_end),
            instruction=self.instruction or None,
            system_prompt=self.system_prompt,
            control_tokens=self.control_tokens,
            day=self.day,
        )

    def prompt_ids(
        self, renderer: PromptRenderer, question: str, control: Control
    ) -> tuple[int, ...]:
        """Ids of a one-question conversation, up to where the reply begins (nothing prefilled)."""
        return renderer.render([Message(Role.USER, question)], control).prompt_ids
