"""The token reports of a reply: the ``budget`` and the ``usage`` object.

One type of report for both sides. This release's server fills in every field; a client also reads
older and newer servers, so for a reader each field may be missing (``None``) and unknown ones are
kept. :class:`Usage` is as this server sends it; the client's own leaves open what others do not
tell (:class:`extracot_client.Usage`).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

NO_SAVING = (
    *("native", "no_baseline", "assumed_baseline", "unlike_card"),
    *("unfinished", "no_reasoning"),
)
"""Why a reply claims no saving: it had no budget; what it is compared with is not known or only
assumed; its prompt is unlike the card's problems; it was cut or is empty; it did not reason."""


def _sent(meaning: str, *words: str, null: bool = True) -> Any:
    """A field. Its JSON schema is what this release sends: one of ``words``, or never null."""

    def narrow(schema: dict[str, Any]) -> None:
        branches = schema.pop("anyOf", [{}])
        branches[0] |= {"enum": list(words)} if words else {}
        schema.update({"anyOf": branches} if null and len(branches) > 1 else branches[0])

    return Field(None, description=meaning, json_schema_extra=narrow)


_MAY_BE_ABSENT = ("prompt_tokens_details",)


def _complete(schema: dict[str, Any]) -> None:
    """The schema of an object that has every field, but what may be absent, and no other."""
    always = [name for name in schema["properties"] if name not in _MAY_BE_ABSENT]
    schema |= {"required": always, "additionalProperties": False}
    for field in schema["properties"].values():
        field.pop("default", None)


class _Reported(BaseModel):
    model_config = ConfigDict(
        extra="allow", frozen=True, protected_namespaces=(), json_schema_extra=_complete
    )


class BudgetReport(_Reported):
    """The ``budget`` object of a reply. Counts are tokens; ratios are against the baseline.

    ``reasoning_tokens + answer_tokens + overhead_tokens`` is everything after the prompt;
    ``injected_tokens`` of it (level, tags) were written by the server, the rest was generated and
    is ``usage.completion_tokens``. ``arm`` is set for a request that has a part in the holdout:
    ``holdout`` ran natively although a budget was asked for. ``max_tokens`` is the bound on
    generated tokens that held: the request's, or what the context had left where that is less.
    ``cap_reason`` says whose bound ended the reasoning, or would have been the first to.
    Both savings are negative where more was spent than the baseline, and null where ``no_saving``
    names a reason; but for what an unfinished reply overspent in all.
    """

    requested: Any = _sent(
        "the `budget`, alias or effort as the client sent it, another vendor's words as they were "
        "read; null: none"
    )
    source: str | None = _sent(
        "where the budget comes from",
        *("budget", "alias", "reasoning_effort", "default"),
        null=False,
    )
    source_fields: list[str] | None = _sent(
        "the fields that were read for it, as the client wrote them, another vendor's words "
        "included; none: the default",
        null=False,
    )
    applied_ratio: float | None = _sent(
        "the ratio after the operator's floor and ceiling; null: not a ratio"
    )
    expected_ratio: float | None = _sent(
        "what the level realised when it was measured; null: no level, or not measured"
    )
    level: str | None = _sent("the level used, or auto, native, none, cap")
    control_token: str | None = _sent("what was written into the prompt")
    enforcement: str | None = _sent(
        "what keeps to it: a trained token, an effort, a cap, a cap beside either, or nothing",
        *("token", "cap", "token+cap", "effort", "effort+cap", "none"),
        null=False,
    )
    exact: bool | None = _sent(
        "counts and bounds are of token ids; false: of a server that was asked by chat messages, "
        "whose own counts are taken where it gives any",
        null=False,
    )
    calibrated: bool | None = _sent(
        "the card's figures hold for this request: its prompt is like the problems they are of",
        null=False,
    )
    chosen: str | None = _sent("auto: the level the model chose")
    chosen_probability: float | None = _sent("auto: how likely it was among the allowed ones")
    max_tokens: int | None = _sent("the bound on generated tokens that held", null=False)
    max_reasoning_tokens: int | None = _sent(
        "the bound on reasoning tokens that held, without grace"
    )
    cap_reason: str | None = _sent(
        "whose bound ended the reasoning, or would have been the first to; loop: it repeated "
        "itself and was ended for that",
        *("budget", "client", "operator", "room", "loop"),
    )
    cap_hit: bool | None = _sent("reasoning was cut off, by a bound or as a loop", null=False)
    closed_by: str | None = _sent(
        "who ended the think block; null: there was none, or it was not ended", "model", "server"
    )
    unclosed: bool | None = _sent("the reply ended inside the think block", null=False)
    escaped: bool | None = _sent(
        "the answer goes on with reasoning that was cut off; null: none was, or the answer is not "
        "in words"
    )
    reasoning_tokens: int | None = _sent("counted on token ids, without tags", null=False)
    grace_tokens: int | None = _sent(
        "of these, beyond the cap of a soft ratio, to the end of a sentence", null=False
    )
    answer_tokens: int | None = _sent("counted on token ids", null=False)
    overhead_tokens: int | None = _sent("level, tags, closing and end tokens", null=False)
    injected_tokens: int | None = _sent(
        "of these, written by the server; all others were generated", null=False
    )
    closing_tokens: int | None = _sent(
        "of these, the closing that was written into a block that was cut off", null=False
    )
    baseline_tokens: float | None = _sent("native reasoning tokens to expect for such a request")
    baseline_source: str | None = _sent(
        "the budget card, an assumption, or this server's holdout", "card", "assumed", "holdout"
    )
    realised_ratio: float | None = _sent("reasoning_tokens / baseline_tokens")
    saved_tokens_estimate: float | None = _sent(
        "baseline_tokens - reasoning_tokens; null where nothing is claimed"
    )
    baseline_total_tokens: float | None = _sent(
        "native reasoning and answer tokens to expect for such a request"
    )
    total_saved_tokens_estimate: float | None = _sent(
        "baseline_total_tokens - reasoning_tokens - answer_tokens; of a reply that was cut or is "
        "empty only what it overspent; else null as the one before"
    )
    no_saving: str | None = _sent("why no saving is claimed; null: one is", *NO_SAVING)
    arm: str | None = _sent(
        "the request's part in the holdout; null: it has none",
        *("budgeted", "holdout", "below_ceiling", "ceiling"),
    )
    ignored_fields: list[str] | None = _sent(
        "fields of the body that this server does not know", null=False
    )

    def as_object(self) -> dict[str, Any]:
        """The JSON object of the API."""
        return dict(vars(self))


class PromptTokensDetails(_Reported):
    """Parts of the prompt."""

    cached_tokens: int | None = _sent(
        "those that came from the engine's prefix cache, and were not computed", null=False
    )


class CompletionTokensDetails(_Reported):
    """Parts of the generated tokens."""

    reasoning_tokens: int | None = _sent("counted on token ids, without tags", null=False)


class Usage(_Reported):
    """OpenAI's usage, in tokens. Completion tokens are the generated ones, reasoning included."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = _sent(
        "parts of the prompt; absent where they are not known", null=False
    )
    completion_tokens_details: CompletionTokensDetails | None = _sent(
        "parts of the generated tokens", null=False
    )

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from a prefix cache; ``None`` if that is not known."""
        details = self.prompt_tokens_details
        return None if details is None else details.cached_tokens

    @property
    def reasoning_tokens(self) -> int | None:
        """Reasoning tokens; ``None`` if the server does not tell."""
        details = self.completion_tokens_details
        return None if details is None else details.reasoning_tokens

    def as_openai(self) -> dict[str, Any]:
        """The JSON object of the API, without what is not known."""
        return self.model_dump(exclude_none=True)
