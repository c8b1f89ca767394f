"""What a server that is asked by chat messages can be asked for: presets by kind, and settings.

Kinds are how servers differ; each key of the setting ``upstream_offers`` replaces one of its kind.
Knows no HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP

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
    path: str = Field("/v1/chat/completions", pattern=r"^/[^/\s#][^\s#]*$")
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
_STANDARD = (
    "messages model stream stream_options n stop tools tool_choice parallel_tool_calls "
    "response_format temperature top_p top_k min_p seed presence_penalty frequency_penalty "
    "repetition_penalty repeat_penalty logit_bias ignore_eos logprobs top_logprobs"
)
_OURS = frozenset(_STANDARD.split())
_LIMITS = frozenset(("max_tokens", "max_completion_tokens"))
_STREAM_OPTIONS = "stream_options."
_OF_A_MESSAGE = frozenset(("role", "content", "name", "tool_calls", "tool_call_id"))
_Named = tuple[str, str]
"""A key of the setting, and a field of the body that it names."""
_SWITCHES = {"True": "on", "False": "off"}
"""What YAML makes of these keys where they stand without quotes."""
_SAMPLING = ("top_k", "min_p", "repetition_penalty", "ignore_eos", "logit_bias")


def kind_of(owner: str | None) -> Kind:
    """The kind of a server, by the ``owned_by`` of its model."""
    return _OWNERS.get((owner or "").lower(), "plain")


def offers_of(given: Mapping[str, Any], kind: Kind) -> Offers:
    """What a server of this kind offers, the settings' word first."""
    return Offers.model_validate({**_PRESETS[kind], **given, "kind": kind})


def _named(offers: Offers) -> dict[str, list[_Named]]:
    """The fields that each key names."""
    one = {"max_tokens": offers.max_tokens, "budget": offers.budget, "effort": offers.effort}
    many = {"on": offers.on, "off": offers.off, "continues": offers.continuing}
    found = {key: [(key, name)] if name is not None else [] for key, name in one.items()}
    found |= {key: [(key, name) for name in names] for key, names in many.items()}
    return {**found, "counts": [("counts", name) for name in offers.counts]}


def _check_names(offers: Offers) -> None:
    """Raise ``ValueError`` for a field that is this server's own, or that two keys set."""
    named = _named(offers)
    for key, name in (pair for pairs in named.values() for pair in pairs):
        outer = name.partition(".")[0]
        told = key == "counts" and name.startswith(_STREAM_OPTIONS)
        ours = _OURS if key == "max_tokens" else _OURS | _LIMITS
        if (outer in ours and not told) or name == f"{_STREAM_OPTIONS}include_usage":
            raise ValueError(f"{key}: {name} is a field that this server sets itself")
    if (offers.reasoning or "").partition(".")[0] in _OF_A_MESSAGE:
        raise ValueError(f"reasoning: {offers.reasoning} is a field that this server sets itself")
    always = named["max_tokens"] + named["counts"]
    for together in (
        [*always, *named["effort"], *named["on"], *named["budget"]],
        [*always, *named["off"]],
        [*always, *named["continues"]],
    ):
        _check_apart(together)


def _check_apart(named: Sequence[_Named]) -> None:
    """Raise ``ValueError`` where of fields that are sent together one is, or is within, another.

    A number of tokens may take the place of what turns reasoning on: `-1`, say.
    """
    for (key, name), (other, second) in combinations(named, 2):
        if name == second and (key, other) != ("on", "budget"):
            raise ValueError(f"{other}: {second} is set by {key} as well")
        for inner, outer in ((name, second), (second, name)):
            if inner.startswith(f"{outer}."):
                raise ValueError(f"{other}: {inner} is within {outer}, which is set as well")


def _check_values(offers: Offers) -> None:
    """Raise ``ValueError`` for a value that no body can hold."""
    sent = {"on": offers.on, "off": offers.off, "counts": offers.counts}
    for key, fields in {**sent, "continues": offers.continuing}.items():
        for name, value in fields.items():
            try:
                json.dumps(value, allow_nan=False)
            except (ValueError, TypeError, RecursionError):
                raise ValueError(f"{key}: the value of {name} is not JSON") from None


def check_offers(value: Mapping[str, Any]) -> dict[str, Any]:
    """The setting as it may be used. Raises ``ValueError`` in one line that names the key."""
    given = {_SWITCHES.get(key, key): item for key, item in value.items()}
    if isinstance(efforts := given.get("efforts"), str):
        given["efforts"] = efforts.split()
    if isinstance(sampling := given.get("sampling"), str):
        given["sampling"] = sampling.split()
    # Without the one there is no use for the other, which the kind may have.
    if given.get("effort", "") is None:
        given.setdefault("efforts", ())
    elif given.get("efforts") in ([], ()):
        given.setdefault("effort", None)
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
    whole = found
    if found.kind is not None:
        whole = offers_of(found.model_dump(exclude_unset=True), found.kind)
    if bool(whole.effort) != bool(whole.efforts):
        raise ValueError("effort and efforts go together: the field, and what it takes")
    if twice := [one for one in found.efforts if found.efforts.count(one) > 1]:
        raise ValueError(f"efforts: {twice[0]} is there twice")
    if strange := [one for one in found.efforts if one not in DEFAULT_EFFORT_MAP]:
        known = ", ".join(DEFAULT_EFFORT_MAP)
        raise ValueError(f"efforts: {strange[0]} has no budget that it stands for, only {known}")
    if found.splits and found.reasoning is None and found.kind in (None, "plain", "openai"):
        raise ValueError("splits needs reasoning: the field that the beginning has it in")
    _check_names(whole)
    _check_values(found)
    if found.words is not None and "{tokens}" not in found.words:
        raise ValueError("words: must hold {tokens}, which stands for the number")
    if found.continues is True:
        given["continues"] = {}
    return given
