"""Settings of stage ``publish``: which model becomes a folder to serve, with which card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from extracot_training.pipeline.settings import DifferenceSettings, StageConfig


def _usable_by_clients(name: str) -> str:
    if not name.isprintable() or set(name) & set(" @"):
        raise ValueError("want printable characters without spaces and without @, such as mine")
    return name


# What a server takes for a name; ``name@0.4`` is an alias there.
ModelName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_usable_by_clients)]


class PublishConfig(StageConfig):
    """Makes a folder for ``extracot-serve --model``: weights, tokenizer, budget card, model card.

    With ``difference`` the weights are told as what they differ by from a base that a package
    brings; servers merge them once, into their cache.

    Without an evaluation the card is a draft: it names the levels and claims nothing of them.
    Published again with one, the folder keeps its weights and gets a measured card.
    """

    runtime: ClassVar[frozenset[str]] = frozenset(
        {
            *("out", "model", "evaluation", "self_check", "serve_arguments", "serve_timeout_s"),
            *("rows", "rows_limit"),
        }
    )

    model: Path = Field(description="folder of stage sft or chrpo, or an adapter's folder")
    evaluation: Path | None = Field(
        None, description="folder of stage evaluate, of this very model; null: a draft"
    )
    name: ModelName | None = Field(
        None, description="name it is served by and called in the model card (else the folder's)"
    )
    base_model: str | None = Field(
        None, description="what the model was made from (else found in the stages before)"
    )
    license: str = Field("other", description="licence of the weights, as an SPDX id")
    domain: str | None = Field(
        None,
        min_length=1,
        max_length=400,
        description="what the model has learnt, if little: read after 'It knows'",
    )
    examples: tuple[str, ...] = Field(
        (), max_length=20, description="questions it should answer, for whoever tries it first"
    )
    dtype: Literal["keep", "bfloat16", "float16", "float32"] = Field(
        "keep", description="floating-point type of the published weights"
    )
    difference: DifferenceSettings | None = Field(
        None, description="keep only what differs from the base, which a server merges at its start"
    )
    rows: Path | None = Field(
        None, description="difference: folder of stage mix, to measure on what compressing it cost"
    )
    rows_limit: int = Field(200, ge=1, description="difference: how many of those rows")
    self_check: Literal["files", "vllm"] = Field(
        "files", description="vllm: also serve the folder once and ask for every level"
    )
    serve_arguments: tuple[str, ...] = Field(
        (), description="self_check vllm: more flags of extracot-serve"
    )
    serve_timeout_s: float = Field(900.0, gt=0.0, description="longest wait for that server")

    @model_validator(mode="after")
    def _measures_a_difference(self) -> Self:
        if self.rows is not None and self.difference is None:
            raise ValueError(
                "rows: want difference with it; on rows is measured what telling the weights as a "
                "difference cost, and nothing else"
            )
        return self
