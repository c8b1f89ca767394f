"""Settings of rollouts: how replies are drawn, and by what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from extracot_training.config.sampling import ApiSettings, VllmEngine
from extracot_training.pipeline.settings import Section


class RolloutSamplingParams(Section):
    """How tokens are drawn."""

    temperature: float = Field(0.7, ge=0.0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="nucleus sampling")
    max_tokens: int = Field(4096, ge=1, description="longest reply; a longer one is cut")


class GenerateBackend(Section):
    """Our sampler in this process."""

    kind: Literal["generate"] = "generate"
    batch: int = Field(256, ge=1, description="replies at a time")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: a GPU where there is one")
    dtype: Literal["float32", "bfloat16"] = "float32"


class VllmIdsBackend(VllmEngine):
    """vLLM in this process, over whole batches of token ids."""

    batch: int = Field(1024, ge=1, description="replies handed over at once")


class ServerBackend(ApiSettings):
    """A server of ours that serves the model. It renders the prompts, by the same rules."""

    kind: Literal["server"] = "server"
    model: str | None = Field(None, description="name to ask for; null: the server's first")
    batch: int = Field(1024, ge=1, description="replies between saves")
    concurrency: int = Field(32, ge=1, description="requests at a time")


RolloutBackendConfig = Annotated[
    GenerateBackend | VllmIdsBackend | ServerBackend, Field(discriminator="kind")
]
