"""Settings of text generation for a stage, and of rollouts by a trained policy: an HTTP
server, vLLM in this process, or our own sampler."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl

from extracot_training.pipeline.settings import Section


class SamplingParams(Section):
    """How tokens are drawn; ``null`` leaves a setting to the model's own default."""

    temperature: float | None = Field(0.7, ge=0.0, description="0 is greedy")
    top_p: float | None = Field(0.95, gt=0.0, le=1.0, description="nucleus sampling")
    top_k: int | None = Field(None, ge=1, description="vLLM and servers that know it")
    min_p: float | None = Field(None, ge=0.0, le=1.0, description="vLLM and servers that know it")
    max_tokens: int = Field(4096, ge=1, description="longest reply; longer ones are rejected")


class ApiSettings(Section):
    """Where an HTTP API is, and how it is asked."""

    base_url: HttpUrl = Field(description="such as http://localhost:8000/v1")
    api_key_env: str | None = Field(None, description="environment variable with the API key")
    concurrency: int = Field(16, ge=1, description="requests at a time")
    timeout_s: float = Field(600.0, gt=0.0, description="longest wait for one reply")
    retries: int = Field(5, ge=0, description="further tries after a failed one")
    backoff_s: float = Field(0.5, ge=0.0, description="first pause; doubles, up to 30 s")


# None of this changes what comes out: a resumed run may use another address, say.
API_RUNTIME = frozenset(f"backend.{name}" for name in ApiSettings.model_fields)


class HttpBackend(ApiSettings):
    """An OpenAI-compatible chat server."""

    kind: Literal["http"] = "http"
    model: str = Field(min_length=1, description="model name to ask for")
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="more fields of the request, such as {budget: native}"
    )


class VllmIdsBackend(Section):
    """vLLM in this process, over whole batches of token ids."""

    kind: Literal["vllm"] = "vllm"
    batch: int = Field(1024, ge=1, description="replies handed over at once")
    engine: dict[str, Any] = Field(
        default_factory=dict, description="arguments of vllm.LLM, such as {dtype: bfloat16}"
    )


class VllmBackend(VllmIdsBackend):
    """vLLM in this process, over whole batches of messages."""

    model: str = Field(min_length=1, description="name or folder of the model")
    batch: int = Field(256, ge=1, description="requests handed over at once (rows between saves)")
    template: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the chat template"
    )


Backend = Annotated[HttpBackend | VllmBackend, Field(discriminator="kind")]


class RolloutSamplingParams(Section):
    """How tokens of a rollout are drawn."""

    temperature: float = Field(0.7, ge=0.0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="nucleus sampling")
    max_tokens: int = Field(4096, ge=1, description="longest reply; a longer one is cut")


class GenerateBackend(Section):
    """Our sampler in this process."""

    kind: Literal["generate"] = "generate"
    batch: int = Field(256, ge=1, description="replies at a time")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: a GPU where there is one")
    dtype: Literal["float32", "bfloat16"] = "float32"


class ServerBackend(ApiSettings):
    """A server of ours that serves the model. It renders the prompts, by the same rules."""

    kind: Literal["server"] = "server"
    model: str | None = Field(None, description="name to ask for; null: the server's first")
    batch: int = Field(1024, ge=1, description="replies between saves")
    concurrency: int = Field(32, ge=1, description="requests at a time")


RolloutBackendConfig = Annotated[
    GenerateBackend | VllmIdsBackend | ServerBackend, Field(discriminator="kind")
]
