"""Bodies as clients send them: read as JSON and checked field by field; no value is interpreted.

What is not of the right type or range is an :class:`InvalidRequestError` that names the field.
The same for every API, as are fields that none of them has; what it has is each API's to say.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from extracot.tokens import is_unicode
from extracot_server.api.budget_asked import hidden, in_content
from extracot_server.api.budget_readers import Say, Table, snake
from extracot_server.api.budget_words import WORDS, check_inside, check_unknown, nested, read_words
from extracot_server.api.wrong_values import first_fault
from extracot_server.budget.values import BudgetSpec
from extracot_server.errors import InvalidRequestError

_MAX_DEPTH = 128  # of lists and objects; deeper values break code that walks them
_MAX_FIELDS = 256  # each unknown one is compared with `budget` and reported back
# What may be half a character: its escape, its bytes, or another encoding than UTF-8.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\x00")
_HOLDERS = (dict, list)
B = TypeVar("B", bound=BaseModel)


class Body(BaseModel):
    """JSON types are taken at their word: `"1"` is no number, and no number is infinite."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


def described_as(kind: Any) -> BeforeValidator:
    """In the OpenAPI document the field is of this type; its values are checked by hand."""
    return BeforeValidator(lambda value: value, json_schema_input_type=kind)


class ReplyModel(BaseModel):
    """A JSON object of a reply, with these fields only."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The closed list of fields that an API has and this server has not.

    ``hints`` says what to use in place of each (empty: there is nothing). ``defaults`` are values
    that mean what this server does anyway, so they are accepted, as null is.
    """

    hints: Mapping[str, str]
    defaults: Mapping[str, tuple[Any, ...]]
    details: Mapping[str, Mapping[str, Any]]
    """What the error about a field tells a program, where an SDK acts on it."""

    def accepts(self, name: str, value: Any) -> bool:
        """Whether a field of the list may have this value."""
        return value is None or any(
            value == default and type(value) is type(default)
            for default in self.defaults.get(name, ())
        )

    def hint(self, name: str) -> str | None:
        """What to use in place of a field; ``None``: it is not of the list. Bounds on the reply's
        length are in camel case as well."""
        flat = snake(name)
        if name not in self.hints and name != flat and flat in LENGTHS:
            return self.hints.get(flat, f"use `{flat}`")
        return self.hints.get(name)

    def schema(self) -> dict[str, Any]:
        """JSON schemas of the fields of the list."""
        return {
            name: {
                "enum": [*self.defaults.get(name, ()), None],
                "description": f"not supported{'; ' + hint if hint else ''}: any other value is "
                "a 400",
                "deprecated": True,
            }
            for name, hint in sorted(self.hints.items())
        }


_NOWHERE = """functions function_call audio prediction web_search_options best_of moderation
structured_outputs guided_json guided_regex guided_choice guided_grammar prompt_logprobs
use_beam_search length_penalty stop_token_ids include_stop_str_in_output echo add_generation_prompt
continue_final_message chat_template documents mm_processor_kwargs bad_words allowed_token_ids
logits_processors kv_transfer_params return_token_ids return_tokens_as_token_ids
truncate_prompt_tokens modalities"""
_SAMPLING = """stop seed n presence_penalty frequency_penalty logit_bias logprobs top_logprobs min_p
repetition_penalty min_tokens ignore_eos"""
CHAT_ONLY = dict.fromkeys(_SAMPLING.split(), "use `/v1/chat/completions`, which has it")
"""Fields of chat that would change a reply, which the other two APIs do not have."""
LENGTHS = (
    *("max_tokens", "max_completion_tokens", "max_output_tokens"),
    *("max_new_tokens", "max_gen_toks", "max_length", "n_predict", "num_predict"),
)
"""What servers call the bound on a reply's tokens. One that is not heeded is a bill."""
_FALSE = """store echo use_beam_search include_stop_str_in_output continue_final_message
return_token_ids return_tokens_as_token_ids logprobs ignore_eos background"""
_EMPTY = "functions stop_token_ids bad_words logits_processors documents stop stop_sequences"
_AS_ALWAYS: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(_FALSE.split(), (False,)),
    **dict.fromkeys(("add_generation_prompt", "generate", "parallel_tool_calls"), (True,)),
    **dict.fromkeys([*_EMPTY.split(), "mcp_servers"], ([],)),
    **dict.fromkeys(("logit_bias", "mm_processor_kwargs", "kv_transfer_params"), ({},)),
    **dict.fromkeys(("n", "best_of"), (1,)),
    **dict.fromkeys(("repetition_penalty", "length_penalty"), (1, 1.0)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "min_p", "min_tokens"), (0, 0.0)),
    **dict.fromkeys(("n_predict", "num_predict"), (-1,)),
    "top_logprobs": (0,),
    "function_call": ("none",),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}
"""Values that ask for nothing, in whichever API a field is not supported."""


def closed_list(
    hints: Mapping[str, str], details: Mapping[str, Mapping[str, Any]] | None = None
) -> Unsupported:
    """An API's list: fields of OpenAI and vLLM that would change a reply and that no API has here,
    and its own, with its hints for any of them."""
    return Unsupported({**dict.fromkeys(_NOWHERE.split(), ""), **hints}, _AS_ALWAYS, details or {})


def other_lengths(*own: str) -> dict[str, str]:
    """Hints for the names of that bound which are not an API's ``own``, the last of which it is."""
    return dict.fromkeys((name for name in LENGTHS if name not in own), f"use `{own[-1]}`")


def _with_unsupported(schema: dict[str, Any], kind: type[RequestBody]) -> None:
    schema["properties"] |= kind.unsupported.schema()


class RequestBody(Body):
    """The whole body of a request."""

    model_config = ConfigDict(json_schema_extra=_with_unsupported)
    unsupported: ClassVar[Unsupported]
    words: ClassVar[Table] = {}
    """The API's own objects in which other vendors' words for a budget may stand, too."""

    _says: list[Say] = PrivateAttr(default_factory=list)
    _words: frozenset[str] = PrivateAttr(frozenset())
    _in_content: bool = PrivateAttr(False)
    _ignored: list[str] = PrivateAttr(default_factory=list)

    @property
    def says(self) -> list[Say]:
        """What it says of the reasoning in the words of other vendors."""
        return self._says

    @property
    def hides_reasoning(self) -> bool:
        """Whether the reply is to be without its reasoning."""
        asked = getattr(self, "include_reasoning", None)
        return asked is False or any(say.shown is False for say in self._says)

    @property
    def reasoning_in_content(self) -> bool:
        """Whether the reply's reasoning, with its tags, is to stand before the answer."""
        return self._in_content and not self.hides_reasoning

    @property
    def ignored_fields(self) -> tuple[str, ...]:
        """Fields that this server does not know, for the report."""
        extra = [key[:64] for key in self.model_extra or {} if key not in self._words]
        return tuple(sorted([*extra, *self._ignored]))

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """A JSON object as this body; :class:`InvalidRequestError` for its first wrong field.

        What seems to be a budget and is none that is known is a :class:`BudgetError`.
        """
        known = cls.model_fields
        for key, value in body.items():
            if key in known or cls.unsupported.accepts(key, value):
                continue
            if (hint := cls.unsupported.hint(key)) is not None:
                what = "is not supported by this server" + (f"; {hint}." if hint else ".")
                details = cls.unsupported.details.get(key)
                raise InvalidRequestError.of(key, what, "unsupported_parameter", details)
            if snake(key) not in WORDS:
                check_unknown(key, known)
                check_inside(key, value)
        says, words = read_words(body, known, cls.words)
        if any(say.shown is not None for say in says):
            own = "include_reasoning" in known
            shown = hidden(says, body.get("include_reasoning") if own else None)
            body = {**body, "include_reasoning": shown} if own and shown is not None else body
        found = validated(cls, body)
        found._says, found._words, found._in_content = says, words, in_content(says)
        found._ignored = nested(cls.words, body)
        return found


class ChatBody(RequestBody):
    """What a request for a reply may say in every API."""

    model: str | None = Field(
        None, description="a served model's name, or `name@budget` such as `name@0.4`"
    )
    budget: BudgetSpec | None = Field(
        None, description="how much reasoning the reply may cost", examples=[0.2, "auto"]
    )
    include_instruction: bool | None = Field(
        None,
        description="false leaves the checkpoint's instruction out of the last user turn; "
        "by default it is in, but where a grammar or tools bind the answer",
    )


def validated(kind: type[B], value: Mapping[str, Any], where: str = "") -> B:
    """A JSON object as ``kind``; raises :class:`InvalidRequestError` for its first wrong field.

    ``where`` is the field that the object is.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        param, what, missing = first_fault(error, where)
        code = "missing_required_parameter" if missing else "invalid_value"
        raise InvalidRequestError.of(param or "body", f"{what}.", code) from None


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The body as a JSON object; anything else is an :class:`InvalidRequestError`."""
    not_finite = False

    def number(text: str) -> float | int:
        """JSON has one kind of number: a number without a fraction is an integer (``100.0``)."""
        nonlocal not_finite
        value = float(text)
        not_finite |= not math.isfinite(value)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value

    try:
        body = json.loads(raw, parse_float=number, parse_constant=number)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        message = f"The body is not valid JSON: {str(error)[:200]}."
        raise InvalidRequestError(message, code="invalid_json") from None
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_json")
    if raw.count(b"[") + raw.count(b"{") > _MAX_DEPTH and levels(body) > _MAX_DEPTH:
        raise _too_deep()
    if len(body) > _MAX_FIELDS:
        raise InvalidRequestError(f"The body has more than {_MAX_FIELDS} fields.")
    if _HALF.search(raw):
        _check_characters(body)
    if not_finite:
        _check_numbers(body)
    return body


def _check_characters(body: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidRequestError` for half a character, which no prompt can hold."""
    for place, inner in _values(body):
        half = isinstance(inner, str) and not is_unicode(inner)
        if half or (isinstance(place[1], str) and not is_unicode(place[1])):
            where = _spelled(place)
            message = f"`{where}` is not valid Unicode: it holds half a character."
            raise InvalidRequestError(message, param=where, code="invalid_value")


def _check_numbers(body: Mapping[str, Any]) -> None:
    """Raise :class:`InvalidRequestError` for NaN and infinity, which JSON has no word for.

    Python reads them, `1e999` among them, and no reply could say them again.
    """
    for place, inner in _values(body):
        if isinstance(inner, float) and not math.isfinite(inner):
            raise InvalidRequestError.of(_spelled(place), "must be a finite number.")


def _values(body: Mapping[str, Any]) -> Iterator[tuple[tuple[_Place, str | int], Any]]:
    """All values within, and their places.

    A place is spelled only where one is at fault: a body may have millions of long ones.
    """
    left: list[tuple[_Place, Any]] = [(None, body)]
    while left:
        place, value = left.pop()
        for step, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(inner, _HOLDERS):
                left.append(((place, step), inner))
            yield (place, step), inner


_Place = tuple[Any, str | int] | None
"""A step, and the place that it leads on from."""


def _spelled(place: _Place) -> str:
    steps: list[str] = []
    while place is not None:
        place, step = place
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step[:64]}")
    return "".join(reversed(steps)).removeprefix(".")


def _too_deep() -> InvalidRequestError:
    message = f"The body is nested more than {_MAX_DEPTH} levels deep."
    return InvalidRequestError(message, code="invalid_json")


def levels(value: Any) -> int:
    """Levels of lists and objects in a JSON value; a loop, since what is deep breaks recursion."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, list | dict)]:
        depth += 1
        level = [
            inner for one in level for inner in (one if isinstance(one, list) else one.values())
        ]
    return depth
