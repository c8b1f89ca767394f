"""Settings of stage ``evaluate``: which problems are asked of which server, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from extracot_training.config.sampling import ApiSettings, SamplingParams
from extracot_training.pipeline.settings import BootstrapSettings, Seed, SplitNames, StageConfig

Budget = Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto", "native", "none"]
_OURS = frozenset({"budget", "model", "messages", "stream", "stream_options", "seed", "n"})


class EvaluateSampling(SamplingParams):
    """How the measured replies are drawn; what is cut counts."""

    max_tokens: int = Field(
        4096, ge=1, description="longest reply; a longer one is cut, and judged as it is"
    )


class EvaluateConfig(StageConfig, BootstrapSettings, ApiSettings):
    """Measures what users of a running server get: accuracy, tokens, time, at every budget."""

    # What only the report is made with: changing it asks nothing again.
    judging: ClassVar[frozenset[str]] = frozenset(
        {"dataset", "reference", "resamples", "margin", "prompt_bins", "tokenizer", "published"}
    )
    # Times belong to the number of requests at a time.
    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = (
        StageConfig.runtime | judging | (ApiSettings.model_fields.keys() - {"concurrency"})
    )

    input: Path = Field(description="folder of stage problems")
    splits: SplitNames = Field(("test",), description="of these splits")
    limit: int | None = Field(None, ge=1, description="use only the first so many problems")
    dataset: str | None = Field(None, description="name in the report (else sources and splits)")
    model: str = Field(min_length=1, description="model name to ask for")
    budgets: tuple[Budget, ...] = Field(
        (0.2, 0.4, 0.6, 0.8, 1.0, "auto", "native", "none"),
        min_length=1,
        description="asked one after another; a plain OpenAI server has native and none",
    )
    asking: Literal["levels", "ratios"] = Field(
        "levels",
        description="a number names a trained level, or is the ratio that is sent as it is",
    )
    samples: int = Field(1, ge=1, description="samples per problem and budget (avg@k)")
    sampling: EvaluateSampling = Field(
        default_factory=lambda: EvaluateSampling(temperature=0.7, top_p=0.9),
        description="how tokens are drawn",
    )
    seed: Seed = Field(0, description="every request's seed follows from it and the row's key")
    concurrency: int = Field(8, ge=1, description="requests at a time; latencies belong to it")
    request_extra: dict[str, Any] = Field(
        default_factory=dict, description="more fields of every request"
    )
    none_extra: dict[str, Any] = Field(
        default_factory=lambda: {"chat_template_kwargs": {"enable_thinking": False}},
        description="plain server: fields that switch reasoning off, for budget none",
    )
    suffix: str | None = Field(
        None, description="follows every question: a baseline that asks for brevity in words"
    )
    instruction: str | None = Field(
        "Please reason step by step, and put your final answer within \\boxed{}.",
        description="plain server: precedes every question (ours adds its card's itself)",
    )
    system_prompt: str | None = Field(None, description="plain server: system message, if any")
    tokenizer: str | None = Field(
        None, description="plain server: counts reasoning (else the server's usage does)"
    )
    think_start: str = Field("<think>", min_length=1, description="plain server: opening tag")
    think_end: str = Field("</think>", min_length=1, description="plain server: closing tag")
    template_opens_think: bool = Field(
        False, description="plain server: its template starts every reply inside the block"
    )
    timeout_s: float = Field(600.0, gt=0.0, description="longest wait for the next bytes")
    reference: Path | None = Field(
        None, description="folder of stage reference: auto's levels are then also told by r*"
    )
    prompt_bins: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="prompt lengths that bound the card's baselines (null: terciles)"
    )
    published: Literal["gsm8k", "math500", "amc2023"] | None = Field(
        None, description="put the Extra-CoT paper's figures on this data set into the report"
    )
    margin: float = Field(0.02, gt=0.0, lt=1.0, description="non-inferiority margin of accuracy")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.budgets)) != len(self.budgets):
            raise ValueError("budgets: one is there twice")
        if taken := sorted(_OURS & (self.request_extra.keys() | self.none_extra.keys())):
            raise ValueError(f"request_extra, none_extra: {taken[0]!r} is set by the stage itself")
        if self.prompt_bins is not None and list(self.prompt_bins) != sorted(set(self.prompt_bins)):
            raise ValueError("prompt_bins: want them increasing, none twice")
        return self
