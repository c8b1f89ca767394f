"""Parses a client's budget: a ratio, a word, or an object. Independent of the model.

Every JSON value becomes a :class:`BudgetSpec` or a :class:`BudgetError` that names the wrong key
and lists what is allowed. Knows no policy and no card.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from extracot_server.config.effort_map import DEFAULT_EFFORT_MAP
from extracot_server.config.model_settings import BudgetWord, Ratio
from extracot_server.errors import BudgetError

Target = Ratio | BudgetWord
_LONGEST_ALIAS = 32  # replies repeat it, streams in every chunk
WORDS = ("auto", "native", "none")
_SYNONYMS = {"off": "none", "no": "none", "false": "none", "zero": "none", "automatic": "auto"}
_SYNONYMS |= {"full": "native", "unlimited": "native", "default": "native"}
MOST_GRACE = 256
LONGEST_CLOSING = 400  # in characters; what a model may be told is counted in its tokens
ALLOWED = (
    'a number in (0, 1], "auto", "native", "none", or an object with `ratio` (one of these), '
    "or `level` (a name on the budget card), `max_reasoning_tokens` (an integer of 0 or more), "
    '`enforce` ("soft" or "hard"), `closing` (a text) and `grace` '
    f"(an integer from 0 to {MOST_GRACE})"
)
_RULES = {
    "ratio": 'is {}. Allowed: a number in (0, 1], "auto", "native" or "none"',
    "level": "must be the name of a level, not {}",
    "max_reasoning_tokens": "must be an integer of 0 or more, not {}",
    "enforce": 'must be "soft" or "hard", not {}',
    "closing": f"must be a text of at most {LONGEST_CLOSING} characters, not {{}}",
    "grace": f"must be an integer from 0 to {MOST_GRACE}, not {{}}",
}
_target: TypeAdapter[Target] = TypeAdapter(Target, config=ConfigDict(strict=True))


class BudgetObject(BaseModel):
    """A budget with its bounds; at least one of them is set."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "not": {"type": "object", "additionalProperties": {"type": "null"}},
            "examples": [{"ratio": 0.4, "max_reasoning_tokens": 300}],
        },
    )

    ratio: Target | None = Field(None, description="as a budget by itself")
    level: str | None = Field(
        None,
        min_length=1,
        description="a level of the budget card by its name, in place of `ratio`: also one that is "
        "dominated, which no ratio is served by",
    )
    max_reasoning_tokens: int | None = Field(None, ge=0, description="an exact cap")
    enforce: Literal["soft", "hard"] | None = Field(
        None, description="hard: the ratio is a cap as well; in cap mode, one without any grace"
    )
    closing: str | None = Field(
        None,
        max_length=LONGEST_CLOSING,
        description="what is written into a think block that is cut off, before its end tag: at "
        'most 64 tokens, without think tags or control tokens; "": the end tag alone',
    )
    grace: int | None = Field(
        None,
        ge=0,
        le=MOST_GRACE,
        description="cap mode, soft: tokens beyond the ratio's cap within which a sentence or line "
        "may end",
    )


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """One client's ``budget``, read. ``None`` fields were not set; ``given`` is the JSON value."""

    target: Target | None = None
    max_reasoning_tokens: int | None = None
    hard: bool = False
    given: Any = None
    closing: str | None = None
    grace: int | None = None
    level: str | None = None
    target_field: str = "budget"
    closing_field: str = "budget.closing"
    """Where the client wrote the target and the closing, for errors about them."""

    @property
    def asks(self) -> bool:
        """Whether it says how much reasoning there is to be."""
        asked = (self.target, self.level, self.max_reasoning_tokens)
        return any(one is not None for one in asked)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As a field of a body it is read by :func:`parse_budget`."""
        return core_schema.no_info_plain_validator_function(
            parse_budget, json_schema_input_schema=handler.generate_schema(Target | BudgetObject)
        )


def parse_budget(value: Any) -> BudgetSpec:
    """Read a JSON ``budget`` value; raise :class:`BudgetError` naming the key at fault."""
    if not isinstance(value, dict):
        try:
            return BudgetSpec(_target.validate_python(value), given=value)
        except ValidationError:
            text = f"`budget` is {shown(value)}.{_meant(value)} Allowed: {ALLOWED}."
            raise BudgetError(text, param="budget") from None
    for key in value:
        if key not in _RULES:
            near = ["max_reasoning_tokens"] if "token" in key.casefold() else []
            near = near or difflib.get_close_matches(key, _RULES, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise BudgetError(
                f"Unknown key {shown(key)} in `budget`.{hint} Allowed: {ALLOWED}.",
                param=f"budget.{key[:64]}",
            )
    if all(item is None for item in value.values()):
        raise BudgetError(f"`budget` is empty. Allowed: {ALLOWED}.", param="budget")
    try:
        found = BudgetObject.model_validate(value)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        hint = _meant(value[key]) if key == "ratio" else ""
        text = f"`budget.{key}` {_RULES[key].format(shown(value[key]))}.{hint}"
        raise BudgetError(text, param=f"budget.{key}") from None
    if found.level is not None and found.ratio is not None:
        text = "`budget.level` and `budget.ratio` are both set: send only one of them."
        raise BudgetError(text, param="budget.level")
    return BudgetSpec(
        found.ratio,
        found.max_reasoning_tokens,
        found.enforce == "hard",
        value,
        closing=found.closing,
        grace=found.grace,
        level=found.level,
    )


def _meant(value: Any) -> str:
    """`` Did you mean …?`` for what people write in place of a budget, else nothing."""
    meant: str | None = None
    if isinstance(value, str):
        meant = _meant_by_text(" ".join(value.split()).casefold())
    elif value is False:
        meant = '"none"'
    elif isinstance(value, int | float) and not isinstance(value, bool):
        meant = _meant_by_number(value)
    return f" Did you mean {meant}?" if meant else ""


def _meant_by_text(text: str) -> str | None:
    if text in WORDS:
        return f'"{text}"'
    if text in DEFAULT_EFFORT_MAP:
        return f'`reasoning_effort`: "{text}" (by default {json.dumps(DEFAULT_EFFORT_MAP[text])})'
    percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%").strip())
    except ValueError:
        word = _SYNONYMS.get(text) or next(iter(difflib.get_close_matches(text, WORDS, n=1)), None)
        return f'"{word}"' if word else None
    if not percent and 0 < number <= 1:
        return f"the number {number:g}"
    return _meant_by_number(number, percent=percent)


def _meant_by_number(number: float, *, percent: bool = False) -> str | None:
    """From 5 on it is a percentage, or a number of tokens; 1.5 and 2 are neither."""
    if number == 0:
        return '"none"'
    if not 0 < number < 10**9:  # more than a float holds, perhaps
        return None
    if 1 < number < 5 and not percent:
        return None
    tokens = f'{{"max_reasoning_tokens": {number:.0f}}}' if number % 1 == 0 else None
    if number <= 100:
        return f"{number / 100:g}" + (f" or {tokens}" if tokens else "")
    return tokens


_DECIMAL = re.compile(r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?")  # as JSON, or with a bare point


def parse_alias(text: str) -> Target | None:
    """The part of a model name after ``@``: ``0.4``, ``auto``, …; ``None`` if it is no budget."""
    if len(text) > _LONGEST_ALIAS or not (text in WORDS or _DECIMAL.fullmatch(text)):
        return None
    try:
        return _target.validate_python(text if text in WORDS else float(text))
    except ValueError:
        return None


def shown(value: Any) -> str:
    """A value as it may be quoted in an error, in JSON; cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
