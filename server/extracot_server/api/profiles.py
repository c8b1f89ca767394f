"""A model's profile as ``/v1/models`` and ``/v1/budget`` show it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extracot_server.api.body import ReplyModel
from extracot_server.generation.request import ServedModel
from extracot_server.profiles.profile import KeepsReasoning, SwitchValue


class TagInformation(ReplyModel):
    """The tags around a reasoning block."""

    start: str
    end: str
    single_tokens: bool = Field(description="each is one token, and only the token counts")


class SwitchInformation(ReplyModel):
    """A variable of the chat template's own and its values; null: it is not set then."""

    on: SwitchValue | None
    off: SwitchValue | None


class ProfileBaseline(ReplyModel):
    """Reasoning tokens to expect of a reply without a budget, at the most effort there is."""

    tokens: int
    source: str


class ProfileSampling(ReplyModel):
    """What the family's makers recommend for its reasoning."""

    values: dict[str, float]
    source: str


class ProfileInformation(ReplyModel):
    """What is known of the model's family, and used."""

    name: str = Field(description="`unknown`: no family fits, and the settings hold")
    tags: TagInformation
    closing: str = Field(description="sentence for a block that is cut; empty: none")
    ends_reasoning: list[str] = Field(
        description="tokens that end reasoning besides the end tag, with tools"
    )
    efforts: list[str] = Field(description="efforts that the chat template takes")
    switches: dict[str, SwitchInformation]
    budget_switch: str | None = Field(description="variable that takes a number of tokens")
    keeps_reasoning: KeepsReasoning = Field(
        description="which earlier reasoning the chat template writes into a prompt"
    )
    tool_parser: str | None
    baseline: ProfileBaseline | None
    sampling: ProfileSampling | None
    source: str = Field(description="where these facts come from")


AssumedBy = Literal["setting", "profile", "default"]


def profile_information(served: ServedModel) -> ProfileInformation:
    """The profile of a served model."""
    profile, renderer = served.runtime.profile, served.runtime.renderer
    baseline = None
    if profile.baseline is not None:
        baseline = ProfileBaseline(tokens=profile.baseline, source=profile.baseline_source or "")
    sampling = None
    if profile.sampling:
        sampling = ProfileSampling(
            values=dict(profile.sampling), source=profile.sampling_source or ""
        )
    return ProfileInformation(
        name=profile.name,
        tags=TagInformation(
            start=profile.tags.start,
            end=profile.tags.end,
            single_tokens=renderer.single_id_tags,
        ),
        closing=profile.closing,
        ends_reasoning=list(profile.ends_reasoning),
        efforts=list(profile.efforts),
        switches={
            name: SwitchInformation(on=switch.on, off=switch.off)
            for name, switch in profile.switches.items()
        },
        budget_switch=profile.budget_switch,
        keeps_reasoning=profile.keeps_reasoning,
        tool_parser=profile.tool_parser,
        baseline=baseline,
        sampling=sampling,
        source=profile.source,
    )


def assumed_by(served: ServedModel) -> AssumedBy | None:
    """Who says what cap mode assumes; ``None`` with a card."""
    if served.card is not None:
        return None
    tokens, profile = served.policy.assumed_baseline, served.runtime.profile
    if served.assumes_setting:
        return "setting"
    return "profile" if tokens == profile.baseline else "default"
