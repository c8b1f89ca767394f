"""What a server that is asked by chat messages can be asked for: presets by kind, and settings.

Kinds are how servers differ; each key of the setting ``upstream_offers`` replaces one of its kind.
Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

Kind = Literal["llama.cpp", "vllm", "sglang", "openai", "plain"]
_FieldPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=128)
]
_Effort = Annotated[str, StringConstraints(min_length=1, max_length=32)]
_NO_THINKING = {"chat_template_kwargs.enable_thinking": False}


class Offers(BaseModel):
    """What an upstream takes. A name with dots is a field within a field of the body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind | None = Field(None, description="None: the server is asked at start")
    path: str = Field("/v1/chat/completions", pattern=r"^/\S+$")
    context: int | None = Field(None, ge=1)
    max_tokens: _FieldPath = "max_tokens"
    budget: _FieldPath | None = None
    effort: _FieldPath | None = None
    efforts: tuple[_Effort, ...] = ()
    variables: bool = False
    on: dict[_FieldPath, Any] = Field(default_factory=dict)
    off: dict[_FieldPath, Any] = Field(default_factory=dict)
    words: str | None = Field(None, min_length=1, max_length=400)
    continues: dict[_FieldPath, Any] | bool = False
    splits: bool = Field(False, description="a beginning has its reasoning in the field for it")
    sampling: tuple[str, ...] = ()
    formats: bool = False
    counts: dict[_FieldPath, Any] = Field(default_factory=dict)
    reasoning: _FieldPath | None = None

    @property
    def can_continue(self) -> bool:
        """Whether it goes on with the beginning of a reply: only then can reasoning be cut off."""
        return self.continues is not False

    @property
    def continuing(self) -> Mapping[str, Any]:
        """What the body says beside the reply's beginning."""
        return self.continues if isinstance(self.continues, dict) else {}

    @property
    def can_skip(self) -> bool:
        """Whether a reply without reasoning can be had."""
        return bool(self.off) or self.can_continue


_LOCAL = {"variables": True, "off": _NO_THINKING, "formats": True, "reasoning": "reasoning_content"}
_PRESETS: Mapping[Kind, Mapping[str, Any]] = {
    "llama.cpp": {
        **_LOCAL,
        "continues": {"continue_final_message": "content", "add_generation_prompt": False},
        "splits": True,
        "sampling": ("top_k", "min_p", "ignore_eos"),
        "counts": {"timings_per_token": True},
    },
    "vllm": {
        **_LOCAL,
        "continues": {"continue_final_message": True, "add_generation_prompt": False},
        "sampling": ("top_k", "min_p", "repetition_penalty", "ignore_eos"),
        "counts": {"stream_options.continuous_usage_stats": True},
    },
    "sglang": {
        **_LOCAL,
        "continues": {"continue_final_message": True},
        "sampling": ("top_k", "min_p", "repetition_penalty", "ignore_eos"),
    },
    "openai": {
        "max_tokens": "max_completion_tokens",
        "effort": "reasoning_effort",
        "efforts": ("low", "medium", "high"),
        "formats": True,
    },
    "plain": {},
}
_OWNERS: Mapping[str, Kind] = {"vllm": "vllm", "llamacpp": "llama.cpp", "sglang": "sglang"}
"""Of whom a server says that it owns its models."""
_OURS = ("messages", "model", "stream", "tools", "tool_choice", "response_format")
_SWITCHES = {"True": "on", "False": "off"}
"""What YAML makes of these keys where they stand without quotes."""
_SAMPLING = ("top_k", "min_p", "repetition_penalty", "ignore_eos", "logit_bias")


def kind_of(owner: str | None) -> Kind:
    """The kind of a server, by the ``owned_by`` of its model."""
    return _OWNERS.get((owner or "").lower(), "plain")


def offers_of(given: Mapping[str, Any], kind: Kind) -> Offers:
    """What a server of this kind offers, the settings' word first."""
    return Offers.model_validate({**_PRESETS[kind], **given, "kind": kind})


def _fields(offers: Offers) -> list[str]:
    """All names of fields."""
    named = [offers.max_tokens, *filter(None, (offers.budget, offers.effort))]
    return [*named, *offers.on, *offers.off, *offers.continuing, *offers.counts]


def check_offers(value: Mapping[str, Any]) -> dict[str, Any]:
    """The setting as it may be used. Raises ``ValueError`` in one line that names the key."""
    given = {_SWITCHES.get(key, key): item for key, item in value.items()}
    if isinstance(efforts := given.get("efforts"), str):
        given["efforts"] = efforts.split()
    if isinstance(sampling := given.get("sampling"), str):
        given["sampling"] = sampling.split()
    try:
        found = Offers.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            keys = ", ".join(Offers.model_fields)
            raise ValueError(f"there is no {key:.40}; there are {keys}") from None
        raise ValueError(f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None
    if unknown := [name for name in found.sampling if name not in _SAMPLING]:
        raise ValueError(f"sampling: {unknown[0]!r:.40} is none of {', '.join(_SAMPLING)}")
    if bool(found.effort) != bool(found.efforts) and found.kind != "openai":
        raise ValueError("effort and efforts go together: the field, and what it takes")
    if found.splits and found.reasoning is None and found.kind in (None, "plain", "openai"):
        raise ValueError("splits needs reasoning: the field that the beginning has it in")
    if taken := [name for name in _fields(found) if name.partition(".")[0] in _OURS]:
        raise ValueError(f"{taken[0]} is a field that this server sets itself")
    if found.words is not None and "{tokens}" not in found.words:
        raise ValueError("words: must hold {tokens}, which stands for the number")
    if found.continues is True:
        given["continues"] = {}
    return given
