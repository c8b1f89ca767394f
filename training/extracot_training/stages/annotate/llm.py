"""The ``llm`` annotator: a large model behind an OpenAI-compatible endpoint names ranges to keep.

Replies are kept on disk by the hash of what was asked, so nothing is paid for twice, whenever a run
was cut. An endpoint that stays dead ends the stage with one clear line (and all replies so far
kept).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from extracot_training.compression.final_answer import final_atoms
from extracot_training.config.annotate import LlmSettings
from extracot_training.errors import GenerationError
from extracot_training.generation.http_client import JsonClient, all_of
from extracot_training.pipeline.files import write_atomic
from extracot_training.stages.annotate.base import AnnotatorError, Job, KeepLabels, Usage
from extracot_training.stages.annotate.ranges import (
    AGAIN,
    PROMPT_VERSION,
    chunks,
    messages,
    parse_ranges,
)

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class ReplyCache:
    """Replies by content hash, one small file each, written atomically."""

    folder: Path

    def get(self, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / key[:2] / f"{key}.json").read_bytes())
        except (OSError, json.JSONDecodeError):
            return None
        return found if isinstance(found, dict) and "content" in found else None

    def put(self, key: str, reply: dict[str, Any]) -> None:
        write_atomic(self.folder / key[:2] / f"{key}.json", json.dumps(reply, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class LlmAnnotator:
    """See the module. ``transport`` replaces the network in tests."""

    settings: LlmSettings
    cache: ReplyCache
    transport: httpx.AsyncBaseTransport | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        return f"llm:{self.settings.model}:prompt-{PROMPT_VERSION}"

    def annotate(self, jobs: Sequence[Job]) -> Iterator[KeepLabels]:
        yield from asyncio.run(self._all(jobs))

    async def _all(self, jobs: Sequence[Job]) -> list[KeepLabels]:
        try:
            async with aclosing(JsonClient(self.settings, transport=self.transport)) as client:
                return await all_of(self._one(client, job) for job in jobs)
        except GenerationError as error:
            raise AnnotatorError(f"annotator endpoint {error}") from error

    async def _one(self, client: JsonClient, job: Job) -> KeepLabels:
        parts = chunks(job.atoms, self.settings.target, self.settings.cap)
        results = await all_of(
            self._chunk(client, job, chunk, f"{number} of {len(parts)}")
            for number, chunk in enumerate(parts, start=1)
        )
        keep = {index for kept, _ in results for index in kept}
        keep |= set(final_atoms(job.atoms, job.trace.gold))
        return KeepLabels(tuple(sorted(keep)), None, sum((usage for _, usage in results), Usage()))

    async def _chunk(
        self, client: JsonClient, job: Job, chunk: range, part: str
    ) -> tuple[list[int], Usage]:
        """Kept atoms of one chunk. Asked again while nothing usable comes; then nothing is kept."""
        asked = messages(job.trace.question, job.atoms, chunk, part)
        usage = Usage()
        for attempt in range(self.settings.attempts):
            reply, spent = await self._ask(client, asked, attempt)
            usage += spent
            if found := parse_ranges(reply, len(chunk)):
                return [i for low, high in found for i in chunk[low : high + 1]], usage
            asked = [
                *asked,
                {"role": "assistant", "content": reply or "(nothing)"},
                {"role": "user", "content": AGAIN.format(problem="no valid range in it")},
            ]
        return [], usage

    async def _ask(self, client: JsonClient, asked: Messages, attempt: int) -> tuple[str, Usage]:
        settings = self.settings
        body = {
            "model": settings.model,
            "messages": asked,
            "temperature": 0,
            "max_tokens": settings.max_tokens,
        }
        text = json.dumps([PROMPT_VERSION, attempt, body], sort_keys=True, ensure_ascii=False)
        key = hashlib.sha256(text.encode("utf-8")).hexdigest()
        if (known := self.cache.get(key)) is not None:
            return str(known["content"]), Usage(cached=1)
        data = await client.request("POST", "/chat/completions", json=body)
        try:
            content = data["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError) as error:
            raise AnnotatorError(f"{settings.base_url}: the reply is no chat completion") from error
        counted = data.get("usage") or {}
        prompt = int(counted.get("prompt_tokens") or 0)
        completion = int(counted.get("completion_tokens") or 0)
        usage = Usage(
            calls=1,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost=(prompt * settings.prompt_price + completion * settings.completion_price) / 1e6,
        )
        self.cache.put(key, {"content": content, "usage": counted, "model": settings.model})
        return content, usage
