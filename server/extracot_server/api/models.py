"""``GET /v1/models`` and ``GET /v1/budget``: what is served, and with which budgets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from extracot_server.admission.keys import Principal
from extracot_server.api.auth import principal_of
from extracot_server.api.exchange import app_state
from extracot_server.api.openapi.routes import (
    BUDGET_DOCUMENTATION,
    MODEL_DOCUMENTATION,
    MODELS_DOCUMENTATION,
)
from extracot_server.budget.holdout import CONFIDENCE, Holdout
from extracot_server.budget.resolve import (
    BudgetPolicy,
    allowed_levels,
    expected_ratio,
    policy_level,
)
from extracot_server.generation.request import ServedModel

router = APIRouter()


@router.get("/v1/models", **MODELS_DOCUMENTATION)
async def list_models(request: Request) -> dict[str, Any]:
    """Every served model and its budget aliases (`name@0.4`, `name@auto`)."""
    data: list[dict[str, Any]] = []
    principal = principal_of(request)
    for service in app_state(request).usable(principal).values():
        data.append(_entry(service.model, service.model.name, principal))
        data += [_entry(service.model, alias, principal) for alias in _aliases(service.model)]
    return {"object": "list", "data": data}


@router.get("/v1/models/{model:path}", **MODEL_DOCUMENTATION)
async def get_model(request: Request, model: str) -> dict[str, Any]:
    """One model or alias; 404 for any other name."""
    principal = principal_of(request)
    service, _ = app_state(request).find(model, principal)
    return _entry(service.model, model, principal)


@router.get("/v1/budget", **BUDGET_DOCUMENTATION)
async def get_budget(request: Request, model: str | None = None) -> dict[str, Any]:
    """The card of a model (default: the first) and the policy that holds for this principal."""
    principal = principal_of(request)
    service, _ = app_state(request).find(model, principal)
    served = service.model
    policy = principal.narrow(served.policy)
    return {
        "object": "budget",
        "model": served.name,
        "mode": served.mode,
        "allowed": _allowed(served),
        "levels": _levels(served, policy),
        "policy": {
            "default": policy.default,
            "floor": policy.floor,
            "ceiling": policy.ceiling,
            "reasoning_tokens_ceiling": policy.reasoning_tokens_ceiling,
            "answer_reserve_tokens": policy.answer_reserve,
            "reasoning_effort": dict(policy.efforts),
        },
        "baseline": _baseline(served, service.holdout),
        "holdout": _holdout(service.holdout),
        "card": None if served.card is None else served.card.model_dump(mode="json"),
    }


def _baseline(served: ServedModel, holdout: Holdout) -> dict[str, Any]:
    if served.card is not None:
        source, assumed, measured = "card", None, None
    else:
        assumed, measured = served.policy.assumed_baseline, holdout.baseline
        source = "assumed" if measured is None else "holdout"
    return {
        "source": source,
        "assumed_reasoning_tokens": assumed,
        "measured_reasoning_tokens": measured,
    }


def _holdout(holdout: Holdout) -> dict[str, Any]:
    """Since the server started: what budgets save a reply, measured, and what baselines say."""
    saving, claims = holdout.saving, holdout.claims
    return {
        "fraction": holdout.fraction,
        "since": holdout.since,
        "arms": {
            arm.value: {
                "requests": moments.n,
                "mean_reasoning_tokens": moments.mean if moments.n else None,
                "left_out": holdout.left_out[arm],
            }
            for arm, moments in holdout.arms.items()
        },
        "saving_per_reply": None if saving is None else asdict(saving),
        "confidence": CONFIDENCE,
        "against_baseline": {
            **asdict(claims),
            "net_per_reply": (claims.saved - claims.overspent) / claims.replies
            if claims.replies
            else None,
        },
    }


def _entry(served: ServedModel, name: str, principal: Principal) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "extracot",
        "root": served.name,
        "parent": None if name == served.name else served.name,
        "max_model_len": served.runtime.engine.info.max_model_len,
        "budget": {
            "mode": served.mode,
            "allowed": _allowed(served),
            "levels": _levels(served, principal.narrow(served.policy)),
            "aliases": _aliases(served),
        },
    }


def _levels(served: ServedModel, policy: BudgetPolicy) -> list[dict[str, Any]]:
    if served.card is None:
        return []
    usable = {level.name for level in allowed_levels(served.card, policy)}
    return [
        {
            "name": level.name,
            "control_token": level.token,
            "ratio": level.ratio,
            "expected_ratio": expected_ratio(level),
            "allowed_by_policy": level.name in usable,
        }
        for level in served.card.levels
    ]


def _allowed(served: ServedModel) -> list[str]:
    words = ["a number in (0, 1]", "native", "none"]
    return words if policy_level(served.card) is None else [*words, "auto"]


def _aliases(served: ServedModel) -> list[str]:
    if served.card is None:
        names = ["0.2", "0.4", "0.6", "0.8", "1.0"]
    else:
        names = [f"{level.ratio:g}" for level in served.card.levels if level.ratio is not None]
    words = [] if policy_level(served.card) is None else ["auto"]
    return [f"{served.name}@{name}" for name in [*names, *words, "native", "none"]]
