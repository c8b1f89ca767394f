"""Sends timed streaming requests with limited concurrency, retries and resumption.

Knows the OpenAI SDK and the rows it fills; knows nothing of golds or figures.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai

from extracot.reasoning import ThinkTags
from extracot_training.config.evaluate import Budget, EvaluateConfig
from extracot_training.evaluation.rows import Reply, budget_name, row_key
from extracot_training.evaluation.server import Server, ServerError, message_of
from extracot_training.generation.http_client import (
    FATAL,
    RETRIED,
    RetryPolicy,
    TransientError,
    bounded,
)
from extracot_training.generation.sampling.base import split_reply
from extracot_training.math_text.normalise import unit_interval
from extracot_training.pipeline.records import Problem

_STANDARD = ("temperature", "top_p", "max_tokens")
# What a budget report and an evaluation's rows call alike.
_COUNTS = ("chosen_probability", "reasoning_tokens", "answer_tokens")
_ENDING = ("closed_by", "unclosed", "cap_hit")


@dataclass(frozen=True, slots=True)
class Question:
    """One request to make. ``sample`` counts from 0."""

    problem: Problem
    budget: Budget
    sample: int
    seed: int

    @property
    def key(self) -> str:
        return row_key(self.problem.id, budget_name(self.budget), self.sample)


@dataclass(frozen=True, slots=True)
class Failed:
    """No reply although asked again; a later run may get one."""

    message: str


@dataclass(slots=True)
class _Stream:
    """What came, and when: ``(seconds, text)`` per chunk."""

    reasoning: list[tuple[float, str]] = field(default_factory=list)
    content: list[tuple[float, str]] = field(default_factory=list)
    finish: str | None = None
    usage: Any = None
    report: dict[str, Any] | None = None
    seconds: float = 0.0
    started: float = 0.0


def questions(
    config: EvaluateConfig, problems: Sequence[Problem], budget: Budget, done: frozenset[str]
) -> Iterator[Question]:
    """What is still to be asked at a budget. A seed depends on the key, not on what came before."""
    name = budget_name(budget)
    for problem in problems:
        for sample in range(config.samples):
            key = row_key(problem.id, name, sample)
            if key not in done:
                seed = int(unit_interval("evaluate", config.seed, key) * 2**31)
                yield Question(problem, budget, sample, seed)


class EvalClient:
    """Asks one server's questions. Not reusable after its client is closed."""

    def __init__(self, client: openai.AsyncOpenAI, server: Server, config: EvaluateConfig) -> None:
        self._client = client
        self._server = server
        self._config = config
        self._policy = RetryPolicy(config.retries, config.backoff_s)
        self._tags = ThinkTags(config.think_start, config.think_end)

    def run(self, wanted: Iterator[Question]) -> AsyncGenerator[Reply | Failed, None]:
        """Replies as they are done. Raises :class:`ServerError` when going on is pointless."""
        return bounded(self._one, wanted, self._config.concurrency)

    async def _one(self, question: Question) -> Reply | Failed:
        try:
            return await self._policy.run(lambda attempt: self._try(question, attempt))
        except TransientError as error:
            if error.unreachable:
                raise ServerError(
                    f"{self._config.base_url}: the server is gone ({error}, tried "
                    f"{self._policy.tries} times); the same command goes on from here"
                ) from error
            return Failed(str(error))

    async def _try(self, question: Question, attempt: int) -> Reply:
        """Ask once. Raises :class:`TransientError` for what may pass."""
        try:
            return self._reply(question, await self._stream(question), attempt)
        except openai.APIStatusError as error:
            status, problem = error.status_code, f"HTTP {error.status_code}: {message_of(error)}"
            if status in FATAL:
                raise ServerError(f"{self._config.base_url}: {problem}") from error
            if status in RETRIED:
                wished = error.response.headers.get("retry-after")
                raise TransientError(problem, retry_after=wished) from error
            return Reply(**_head(question, attempt), refused=problem, started=time.time())
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise TransientError(type(cause).__name__, unreachable=True) from error
        except openai.APIError as error:
            raise TransientError(message_of(error)) from error
        except ValueError as error:
            raise TransientError(str(error)) from error

    async def _stream(self, question: Question) -> _Stream:
        """Send the request and read all of its stream. Raises what the SDK raises."""
        found = _Stream(started=time.time())
        start = time.perf_counter()
        chunks = await self._client.chat.completions.create(**self._request(question))
        async with chunks:
            async for chunk in chunks:
                now = time.perf_counter() - start
                _read_chunk(chunk, now, found)
        found.seconds = time.perf_counter() - start
        if found.finish is None or found.usage is None:
            raise TransientError("the stream ended without finish_reason and usage")
        return found

    def _request(self, question: Question) -> dict[str, Any]:
        config, server = self._config, self._server
        extra = dict(config.request_extra)
        content = question.problem.question
        if config.suffix:
            content = f"{content} {config.suffix}"
        messages = []
        if server.kind == "extracot":
            extra["budget"] = server.budget_to_send(question.budget, config.asking)
        else:
            if question.budget == "none":
                extra |= config.none_extra
            if config.system_prompt:
                messages.append({"role": "system", "content": config.system_prompt})
            content = f"{config.instruction}\n{content}" if config.instruction else content
        settings = config.sampling.model_dump(exclude_none=True)
        standard = {name: settings.pop(name) for name in _STANDARD if name in settings}
        return {
            "model": config.model,
            "messages": [*messages, {"role": "user", "content": content}],
            "seed": question.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            **standard,
            "extra_body": settings | extra,
        }

    def _reply(self, question: Question, found: _Stream, attempt: int) -> Reply:
        if self._server.kind == "extracot":
            fields = self._from_report(question, found)
        else:
            fields = _from_text(found, self._tags, self._config)
        return Reply(
            **_head(question, attempt),
            **fields,
            prompt_tokens=found.usage.prompt_tokens,
            completion_tokens=found.usage.completion_tokens,
            finish_reason=found.finish,
            first_token_s=min((at for at, _ in found.reasoning + found.content), default=None),
            seconds=found.seconds,
            started=found.started,
        )

    def _from_report(self, question: Question, found: _Stream) -> dict[str, Any]:
        """What an Extra-CoT server says of its reply, counted on token ids."""
        report = found.report
        if report is None:
            raise ServerError(f"{self._config.base_url}: a reply came without its budget report")
        wanted = self._server.expected_label(question.budget, self._config.asking)
        if wanted is not None and report["level"] != wanted:
            raise ServerError(
                f"asked for {wanted}, but the server applied {report['level']}: "
                "has it a floor or a ceiling for this key?"
            )
        return {
            "reasoning": _joined(found.reasoning),
            "answer": _joined(found.content),
            "level": self._server.nominal(report["chosen"] or report["level"]),
            **{name: report[name] for name in (*_COUNTS, *_ENDING)},
            "first_answer_s": _first(found.content),
        }


def _head(question: Question, attempt: int) -> dict[str, Any]:
    return {
        "problem_id": question.problem.id,
        "budget": budget_name(question.budget),
        "sample": question.sample,
        "seed": question.seed,
        "attempts": attempt,
    }


def _read_chunk(chunk: Any, now: float, found: _Stream) -> None:
    extra = chunk.model_extra or {}
    found.usage = chunk.usage or found.usage
    found.report = extra.get("budget") or found.report
    for choice in chunk.choices or ():
        delta = choice.delta.model_extra or {}
        if thought := delta.get("reasoning") or delta.get("reasoning_content"):
            found.reasoning.append((now, thought))
        if choice.delta.content:
            found.content.append((now, choice.delta.content))
        found.finish = choice.finish_reason or found.finish


def _from_text(found: _Stream, tags: ThinkTags, config: EvaluateConfig) -> dict[str, Any]:
    """Reasoning and answer of a plain server, from its fields or from tags in the text.

    Raises :class:`ServerError` where reasoning can't be counted: no usage for it, no tokenizer.
    """
    reasoning, answer = _joined(found.reasoning), _joined(found.content)
    begins = 0
    opened, closed = bool(reasoning), bool(answer.strip())
    if not reasoning:
        text = answer
        split, answer, closed = split_reply(text, tags)
        if split is None and config.template_opens_think:
            split, answer = text, ""
        opened, reasoning = split is not None, split or ""
        begins = len(text) - len(answer)
    details = found.usage.completion_tokens_details
    thought = details.reasoning_tokens if details is not None else None
    if not opened:
        thought = 0
    elif not closed:
        thought = found.usage.completion_tokens  # never closed: all of it is reasoning
    elif config.tokenizer is not None:
        thought = None
    elif thought is None:
        raise ServerError(
            "the server does not count reasoning tokens in its usage; set tokenizer to count them"
        )
    return {
        "reasoning": reasoning,
        "answer": answer,
        "reasoning_tokens": thought,
        "answer_tokens": None if thought is None else found.usage.completion_tokens - thought,
        "closed_by": "model" if opened and closed else None,
        "unclosed": opened and not closed,
        "first_answer_s": _first(found.content, begins) if answer.strip() else None,
    }


def _joined(parts: Sequence[tuple[float, str]]) -> str:
    return "".join(text for _, text in parts)


def _first(parts: Sequence[tuple[float, str]], offset: int = 0) -> float | None:
    """When the character at ``offset`` of the joined text came; ``None`` if there is none."""
    length = 0
    for seconds, text in parts:
        length += len(text)
        if length > offset:
            return seconds
    return None
