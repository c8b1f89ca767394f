"""``GET /v1/canary``: what a model's canary does beside the others, with intervals."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field

from extracot_server.api.admin import check_admin
from extracot_server.api.auth import principal_of
from extracot_server.api.body import ReplyModel
from extracot_server.api.exchange import app_state
from extracot_server.api.openapi.errors import errors
from extracot_server.api.read_route import QueryRoute
from extracot_server.budget.canary import FAILURES, MEANS, SHARES, Comparison, Side
from extracot_server.budget.holdout import CONFIDENCE

router = APIRouter(route_class=QueryRoute)


class SideInformation(ReplyModel):
    """One side's requests."""

    requests: int = Field(description="that are compared, however they ended")
    replies: int = Field(description="of them those whose client got the whole reply")
    moved: int = Field(description="served on the other side, and not compared")
    held_out: int = Field(description="drawn by the holdout, and not compared")


class DifferenceInformation(ReplyModel):
    """canary - stable."""

    mean: float
    low: float = Field(description="lower end of the interval")
    high: float


class Compared(ReplyModel):
    """One figure of both sides."""

    stable: float | None = Field(description="mean or share; null without any request")
    canary: float | None
    difference: DifferenceInformation | None = Field(
        description="canary - stable; null until there are enough conversations (or keys) on both "
        "sides"
    )


class CanaryTarget(ReplyModel):
    """What is tried, and with how much."""

    name: str
    share: float
    stick: Literal["conversation", "key", "request"] = Field(
        description="what has one side for all of its requests"
    )
    target: str = Field(description="the upstreams, the model or the card")


class CanaryInformation(ReplyModel):
    """A model's canary and its comparison with the others."""

    object: Literal["canary"]
    model: str
    canary: CanaryTarget | None = Field(description="null: the model has none")
    sides: dict[Literal["stable", "canary"], SideInformation]
    means: dict[Literal["reasoning_tokens", "total_tokens", "seconds"], Compared] = Field(
        description="of a whole reply; total_tokens are reasoning and answer"
    )
    shares: dict[
        Literal["cut", "cap_hit", "escaped", "no_answer", "error", "aborted"], Compared
    ] = Field(
        description="of whole replies: ended at max_tokens, reasoning cut off, answer goes on "
        "reasoning, no answer; of all requests: failed, left by their client"
    )
    confidence: float = Field(description="of each interval")
    shared: bool = Field(
        description="all processes with this usage store are counted; false: this one alone"
    )


@router.get("/v1/canary", responses=errors(400, 401, 403, 404, 500))
async def get_canary(request: Request, model: str | None = None) -> CanaryInformation:
    """How a model's canary compares (default: the first model). For an admin key, where keys are
    required."""
    check_admin(request, orders=False)
    state = app_state(request)
    service, _ = state.find(model, principal_of(request))
    canary = service.canary
    comparison, shared, target = Comparison(), False, None
    if canary is not None:
        kept = await state.meter.compared(canary.bucket)
        comparison = canary.comparison if kept is None else Comparison.of(kept)
        shared = kept is not None and state.meter.shared
        settings = canary.settings
        target = CanaryTarget(
            name=settings.name,
            share=settings.share,
            stick=settings.stick,
            target=settings.target,
        )
    return CanaryInformation(
        object="canary",
        model=service.model.name,
        canary=target,
        sides={side.value: _side(comparison, side) for side in Side},
        means={kind: _compared(comparison, kind) for kind in MEANS},
        shares={kind: _compared(comparison, kind) for kind in (*SHARES, *FAILURES)},
        confidence=CONFIDENCE,
        shared=shared,
    )


def _side(comparison: Comparison, side: Side) -> SideInformation:
    kinds = ("requests", "replies", "moved", "held_out")
    return SideInformation(**{kind: round(comparison.total(side, kind)) for kind in kinds})


def _compared(comparison: Comparison, kind: str) -> Compared:
    found = comparison.difference(kind)
    return Compared(
        stable=comparison.mean(Side.STABLE, kind),
        canary=comparison.mean(Side.CANARY, kind),
        difference=None if found is None else DifferenceInformation(**found._asdict()),
    )
