"""``GET /v1/models`` and ``GET /v1/budget``: the served models and their budgets."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from extracot.card import BudgetCard
from extracot_server.admission.keys import Principal
from extracot_server.api.auth import principal_of
from extracot_server.api.body import ReplyModel
from extracot_server.api.exchange import app_state
from extracot_server.api.openapi.errors import errors
from extracot_server.api.profiles import (
    AssumedBy,
    ProfileInformation,
    assumed_by,
    profile_information,
)
from extracot_server.api.read_route import QueryRoute
from extracot_server.budget.holdout import CONFIDENCE, Excluded, Holdout, Saving
from extracot_server.budget.resolve import (
    BudgetPolicy,
    allowed_levels,
    measured_ratio,
    policy_level,
)
from extracot_server.budget.values import Target
from extracot_server.generation.request import ServedModel
from extracot_server.generation.service import ChatService

router = APIRouter(route_class=QueryRoute)


class LevelInformation(ReplyModel):
    """A level, trained or measured."""

    name: str
    enforced_by: Literal["token", "effort", "cap"]
    control_token: str | None = Field(description="null: it has none")
    effort: str | None = Field(description="what the chat template is asked for")
    ratio: float | None = Field(description="nominal; null for an effort")
    expected_ratio: float | None = Field(description="as measured; null: not measured")
    accuracy: float | None = Field(description="as measured")
    dominated_by: str | None = Field(
        description="what was measured to be cheaper and more accurate; ratios go to other levels"
    )
    allowed_by_policy: bool = Field(description="within this key's floor and ceiling")


class ModelBudget(ReplyModel):
    """Which budgets a model takes."""

    mode: Literal["token", "cap"] = Field(description="trained levels, or caps and efforts")
    takes_card: bool = Field(
        description="whether a budget card can be made for it; not where its servers are asked by "
        "chat messages"
    )
    allowed: list[str]
    levels: list[LevelInformation]
    aliases: list[str] = Field(description="names with a budget")
    profile: ProfileInformation
    default_max_tokens: int | None = Field(
        description="most tokens of a reply whose request does not say; null: what the context "
        "has room for"
    )
    default_sampling: dict[str, float] = Field(
        description="sampling where a request does not say, besides the model's own"
    )


class ModelEntry(ReplyModel):
    """A served model, or one of its aliases."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None = Field(description="of an alias: the model's own name")
    max_model_len: int
    budget: ModelBudget


class ModelList(ReplyModel):
    """All served models."""

    object: Literal["list"]
    data: list[ModelEntry]


class PolicyInformation(ReplyModel):
    """The policy for this key: the server's, narrowed by the key's."""

    model_config = ConfigDict(from_attributes=True)

    default: Target = Field(description="budget of a request without one")
    floor: float | None
    ceiling: float | None
    reasoning_tokens_ceiling: int | None
    answer_reserve_tokens: int = Field(validation_alias="answer_reserve")
    reasoning_effort: dict[str, Target] = Field(
        validation_alias="allowed_efforts", description="budget of each effort"
    )


class PromptInformation(ReplyModel):
    """What prompts are made with: figures that are measured hold for this and no other."""

    instruction: str | None
    system_prompt: str | None
    think_start: str
    think_end: str
    tokenizer_hash: str


class CuttingOff(ReplyModel):
    """How reasoning is cut off where a request does not say."""

    closing: str = Field(description="what is written before the end tag")
    grace_tokens: int = Field(description="cap mode: most tokens beyond a soft ratio's cap")
    loop_tokens: int = Field(description="how long a loop may become; 0: as long as it likes")


class BaselineInformation(ReplyModel):
    """Where the native reasoning length to compare with comes from."""

    source: Literal["card", "assumed", "holdout"]
    assumed_reasoning_tokens: int | None
    assumed_by: AssumedBy | None = Field(description="who says so: setting, profile or default")
    measured_reasoning_tokens: float | None


class ArmInformation(ReplyModel):
    """One side of the holdout."""

    requests: int
    mean_reasoning_tokens: float | None
    left_out: int = Field(description="requests left out: they did not finish by themselves")


class ClaimedSaving(ReplyModel):
    """What the same replies save against their baselines. `saved` alone overstates it."""

    replies: int
    saved: float = Field(description="tokens below the baselines")
    overspent: float = Field(description="tokens above the baselines")
    net_per_reply: float | None = Field(description="(saved - overspent) / replies")


class HoldoutInformation(ReplyModel):
    """The measured saving, as far back as the usage store holds it."""

    fraction: float
    since: int = Field(description="Unix seconds")
    arms: dict[Literal["budgeted", "holdout", "below_ceiling", "ceiling"], ArmInformation] = Field(
        description="budgeted against holdout, and requests below an operator's ceiling against "
        "others at it (`--holdout-at-ceiling`)"
    )
    excluded: dict[Literal["ceiling", "limit", "none"], int] = Field(
        description="requests with a budget that have no part in it: under an operator's ceiling, "
        "with a limit of the client's own, without reasoning"
    )
    saving_per_reply_to_ceiling: Saving | None = Field(
        description="reasoning tokens, between `ceiling` and `below_ceiling`"
    )
    saving_per_reply: Saving | None = Field(
        description="reasoning tokens; null until there are enough requests"
    )
    total_saving_per_reply: Saving | None = Field(description="reasoning and answer tokens")
    confidence: float = Field(description="of the interval")
    against_baseline: ClaimedSaving


class BudgetInformation(ReplyModel):
    """Card, policy, baseline and measured saving of one model."""

    object: Literal["budget"]
    model: str
    mode: Literal["token", "cap"]
    takes_card: bool
    allowed: list[str]
    levels: list[LevelInformation]
    policy: PolicyInformation
    prompt: PromptInformation
    cutting_off: CuttingOff
    baseline: BaselineInformation
    holdout: HoldoutInformation
    profile: ProfileInformation
    card: BudgetCard | None


@router.get("/v1/models", responses=errors(401, 500))
async def list_models(request: Request) -> ModelList:
    """Every served model and its budget aliases (`name@0.4`, `name@auto`)."""
    data: list[ModelEntry] = []
    principal = principal_of(request)
    for service in app_state(request).usable(principal).values():
        names = [service.model.name, *service.model.aliases]
        data += [_entry(service, name, principal) for name in names]
    return ModelList(object="list", data=data)


@router.get("/v1/models/{model:path}", responses=errors(401, 404, 500))
async def get_model(request: Request, model: str) -> ModelEntry:
    """One model or alias; 404 for any other name."""
    principal = principal_of(request)
    service, _ = app_state(request).find(model, principal)
    return _entry(service, model, principal)


@router.get("/v1/budget", responses=errors(400, 401, 404, 500))
async def get_budget(request: Request, model: str | None = None) -> BudgetInformation:
    """The card of a model (default: the first) and the policy that holds for this principal."""
    principal = principal_of(request)
    service, _ = app_state(request).find(model, principal)
    served = service.model
    policy = principal.narrow(served.policy)
    return BudgetInformation(
        object="budget",
        model=served.name,
        mode=served.mode,
        takes_card=served.offers is None,
        allowed=_allowed(served),
        levels=_levels(served, policy),
        policy=PolicyInformation.model_validate(policy),
        prompt=_prompt(served),
        cutting_off=CuttingOff(
            closing=served.closing.text.strip(),
            grace_tokens=policy.grace_tokens,
            loop_tokens=served.loop_tokens,
        ),
        baseline=_baseline(served, service.holdout),
        holdout=_holdout(service.holdout),
        profile=profile_information(served),
        card=served.card,
    )


def _prompt(served: ServedModel) -> PromptInformation:
    runtime = served.runtime
    return PromptInformation(
        instruction=runtime.instruction,
        system_prompt=runtime.system_prompt,
        think_start=runtime.tags.start,
        think_end=runtime.tags.end,
        tokenizer_hash=runtime.tokenizer_hash,
    )


def _baseline(served: ServedModel, holdout: Holdout) -> BaselineInformation:
    measured = holdout.baseline if served.card is None else None
    return BaselineInformation(
        source="card" if served.card else "assumed" if measured is None else "holdout",
        assumed_reasoning_tokens=None if served.card else served.policy.assumed_baseline,
        assumed_by=assumed_by(served),
        measured_reasoning_tokens=measured,
    )


def _holdout(holdout: Holdout) -> HoldoutInformation:
    """What budgets save a reply, measured, and what baselines say."""
    claims = holdout.claims
    net = (claims.saved - claims.overspent) / claims.replies if claims.replies else None
    return HoldoutInformation(
        fraction=holdout.fraction,
        since=holdout.since,
        arms={
            arm.value: ArmInformation(
                requests=moments.n,
                mean_reasoning_tokens=moments.mean if moments.n else None,
                left_out=holdout.left_out[arm],
            )
            for arm, moments in holdout.shown.items()
        },
        excluded={reason.value: holdout.excluded[reason] for reason in Excluded},
        saving_per_reply=holdout.saving,
        saving_per_reply_to_ceiling=holdout.saving_to_ceiling,
        total_saving_per_reply=holdout.total_saving,
        confidence=CONFIDENCE,
        against_baseline=ClaimedSaving(**asdict(claims), net_per_reply=net),
    )


def _entry(service: ChatService, name: str, principal: Principal) -> ModelEntry:
    served = service.model
    measured = service.holdout.baseline
    policy = replace(principal.narrow(served.policy), measured_baseline=measured)
    return ModelEntry(
        id=name,
        object="model",
        created=served.created,
        owned_by="extracot",
        root=served.name,
        parent=None if name == served.name else served.name,
        max_model_len=served.runtime.engine.info.max_model_len,
        budget=ModelBudget(
            mode=served.mode,
            takes_card=served.offers is None,
            allowed=_allowed(served),
            levels=_levels(served, policy),
            aliases=list(served.aliases),
            profile=profile_information(served),
            default_max_tokens=served.defaults.bound(policy, has_card=served.card is not None),
            default_sampling=dict(served.defaults.sampling),
        ),
    )


def _levels(served: ServedModel, policy: BudgetPolicy) -> list[LevelInformation]:
    if served.card is None:
        return []
    usable = {level.name for level in allowed_levels(served.card, policy)}
    return [
        LevelInformation(
            name=level.name,
            enforced_by=level.enforced_by,
            control_token=level.token,
            effort=level.effort,
            ratio=level.ratio,
            expected_ratio=measured_ratio(level),
            accuracy=level.accuracy.mean if level.accuracy is not None else None,
            dominated_by=level.dominated_by,
            allowed_by_policy=level.name in usable,
        )
        for level in served.card.levels
    ]


def _allowed(served: ServedModel) -> list[str]:
    words = ["a number in (0, 1]", "native", *(["none"] if served.policy.can_skip else [])]
    return words if policy_level(served.card) is None else [*words, "auto"]
