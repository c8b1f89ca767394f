"""From what an API has read of a body to the chat request: what every API does alike.

Joins the budget's words, the alias and the effort, checks what is the model's to say, and gathers
what the report is to name. Knows no API in particular, and runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from extracot.prompt import Message
from extracot_server.admission.keys import Principal
from extracot_server.api.body import ChatBody
from extracot_server.api.budget_asked import Asked, join_words
from extracot_server.api.budget_readers import Say
from extracot_server.api.earlier_reasoning import EarlierReasoning, check_blocks
from extracot_server.api.template_variables import read_variables, said_by_variables
from extracot_server.budget.resolve import BudgetSources
from extracot_server.budget.values import BudgetSpec, Target
from extracot_server.engine.base import AnswerFormat, SamplingParams
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.request import ChatRequest, ServedModel
from extracot_server.tool_calls.tools import ToolUse

MAX_IGNORED = 256
MAX_OMITTED = 64
MAX_SOURCES = 16
"""Fields of a body, and more within its conversation, that a report names at most: each chunk with
a report repeats them."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What is not in the body: the principal, the alias, and the limits of this server."""

    request_id: str
    principal: Principal
    alias: Target | None
    max_messages: int
    max_choices: int
    model: ServedModel
    thoughts: EarlierReasoning

    def chat_request(
        self,
        body: ChatBody,
        messages: Sequence[Message],
        *,
        budget: BudgetSpec | None,
        effort: Any,
        sampling: SamplingParams,
        tools: ToolUse | None,
        answer_format: AnswerFormat | None,
        max_tokens: int | None,
        stops: tuple[str, ...] = (),
        n: int = 1,
        messages_field: str = "messages",
        effort_field: str = "reasoning_effort",
    ) -> ChatRequest:
        """What serving needs of a request; :class:`InvalidRequestError` for too many messages.

        The fields are what the API calls the conversation and the effort, for errors.
        """
        if len(messages) > self.max_messages:
            message = f"At most {self.max_messages} messages."
            raise InvalidRequestError(message, param=messages_field)
        if getattr(body, "stream_options", None) is not None and not getattr(body, "stream", None):
            raise InvalidRequestError.of("stream_options", "needs `stream` to be true.")
        runtime = self.model.runtime
        check_blocks(messages, runtime.tags, messages_field)
        says = [*body.says, *said_by_variables(body.says, runtime.profile)]
        fields = _budget_fields(budget, self.alias, effort, effort_field, says)
        asked = join_words(says, Asked(budget, effort, effort_field), self.alias)
        with_instruction = body.include_instruction
        if with_instruction is None:  # it asks for an answer in words
            with_instruction = answer_format is None and tools is None
        return ChatRequest(
            request_id=self.request_id,
            messages=tuple(messages),
            budget=BudgetSources(
                asked.budget, self.alias, asked.effort, asked.effort_field, fields
            ),
            sampling=sampling,
            n=n,
            max_tokens=max_tokens,
            stops=stops,
            answer_format=(tools.answer_format() if tools else None) or answer_format,
            with_instruction=with_instruction,
            principal=self.principal,
            ignored_fields=(
                *body.ignored_fields[:MAX_IGNORED],
                *_omitted(messages, self.thoughts.unread),
            ),
            tools=tools,
            messages_field=messages_field,
            asked_model=body.model,
            template_variables=read_variables(body.says, runtime.engine.tokenizer),
        )


def _budget_fields(
    budget: BudgetSpec | None, alias: Target | None, effort: Any, effort_field: str, says: list[Say]
) -> tuple[str, ...]:
    """The fields that a request's budget is read from."""
    ours = {"budget": budget, "model": alias, effort_field: effort}
    given = [field for field, value in ours.items() if value is not None]
    words = [say.field for say in says if say.budgets]
    return tuple(dict.fromkeys([*given, *words]))[:MAX_SOURCES]


def _omitted(messages: Sequence[Message], unread: Sequence[str]) -> list[str]:
    """Fields of what a conversation holds and its prompt only mentions, or has not."""
    mentioned = [where for message in messages for where in message.omitted]
    return [*mentioned, *unread][:MAX_OMITTED]
