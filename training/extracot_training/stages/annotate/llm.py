"""The ``llm`` annotator: a large model behind an OpenAI-compatible endpoint names ranges to keep.

Replies are kept on disk by the hash of what was asked, so nothing is paid for twice, whenever a run
was cut. Failed calls are repeated with growing waits; an endpoint that stays dead ends the stage
with one clear line (and all replies so far kept).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from extracot_training.compression.final_answer import final_atoms
from extracot_training.config.annotate import LlmSettings
from extracot_training.pipeline.files import write_atomic
from extracot_training.stages.annotate.base import AnnotatorError, Job, Usage, Verdict
from extracot_training.stages.annotate.ranges import (
    AGAIN,
    PROMPT_VERSION,
    Chunk,
    chunks,
    messages,
    parse_ranges,
)

_REPEATABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

Messages = list[dict[str, str]]


class ReplyCache:
    """Replies by content hash, one small file each, written atomically."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self._folder / key[:2] / f"{key}.json").read_bytes())
        except (OSError, json.JSONDecodeError):
            return None
        return found if isinstance(found, dict) and "content" in found else None

    def put(self, key: str, reply: dict[str, Any]) -> None:
        write_atomic(self._folder / key[:2] / f"{key}.json", json.dumps(reply, ensure_ascii=False))


class LlmAnnotator:
    """See the module. ``transport`` replaces the network in tests."""

    def __init__(
        self,
        settings: LlmSettings,
        cache: ReplyCache,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._transport = transport

    @property
    def name(self) -> str:
        return f"llm:{self._settings.model}:prompt-{PROMPT_VERSION}"

    def annotate(self, jobs: Sequence[Job]) -> Iterator[Verdict]:
        yield from asyncio.run(self._all(jobs))

    async def _all(self, jobs: Sequence[Job]) -> list[Verdict]:
        settings = self._settings
        key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        if settings.api_key_env and not key:
            raise AnnotatorError(f"the environment variable {settings.api_key_env} is not set")
        gate = asyncio.Semaphore(settings.concurrency)
        async with httpx.AsyncClient(
            base_url=settings.base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=settings.timeout_s,
            transport=self._transport,
        ) as client:
            tasks = [asyncio.create_task(self._one(client, gate, job)) for job in jobs]
            try:
                return list(await asyncio.gather(*tasks))
            except BaseException:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise

    async def _one(self, client: httpx.AsyncClient, gate: asyncio.Semaphore, job: Job) -> Verdict:
        parts = chunks(job.atoms, self._settings.target, self._settings.cap)
        results = await asyncio.gather(
            *(
                self._chunk(client, gate, job, chunk, f"{number} of {len(parts)}")
                for number, chunk in enumerate(parts, start=1)
            )
        )
        keep = {index for kept, _ in results for index in kept}
        keep |= set(final_atoms(job.atoms, job.trace.gold))
        return Verdict(tuple(sorted(keep)), None, sum((usage for _, usage in results), Usage()))

    async def _chunk(
        self, client: httpx.AsyncClient, gate: asyncio.Semaphore, job: Job, chunk: Chunk, part: str
    ) -> tuple[list[int], Usage]:
        """Kept atoms of one chunk. Asked again while nothing usable comes; then nothing is kept."""
        asked = messages(job.trace.question, job.atoms, chunk, part)
        usage = Usage()
        for attempt in range(self._settings.attempts):
            reply, spent = await self._ask(client, gate, asked, attempt)
            usage += spent
            found = parse_ranges(reply, len(chunk.atoms))
            if found:
                kept = [chunk.atoms[i] for low, high in found for i in range(low, high + 1)]
                return kept, usage
            asked = [
                *asked,
                {"role": "assistant", "content": reply or "(nothing)"},
                {"role": "user", "content": AGAIN.format(problem="no valid range in it")},
            ]
        return [], usage

    async def _ask(
        self, client: httpx.AsyncClient, gate: asyncio.Semaphore, asked: Messages, attempt: int
    ) -> tuple[str, Usage]:
        settings = self._settings
        body = {
            "model": settings.model,
            "messages": asked,
            "temperature": 0,
            "max_tokens": settings.max_tokens,
        }
        text = json.dumps([PROMPT_VERSION, attempt, body], sort_keys=True, ensure_ascii=False)
        key = hashlib.sha256(text.encode("utf-8")).hexdigest()
        known = self._cache.get(key)
        if known is not None:
            return str(known["content"]), Usage(cached=1)
        async with gate:
            data = await self._post(client, body)
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
        self._cache.put(key, {"content": content, "usage": counted, "model": settings.model})
        return content, usage

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        """One call, repeated as long as that may help. Raises :class:`AnnotatorError`."""
        settings = self._settings
        wait = settings.first_wait_s
        for left in range(settings.retries, -1, -1):
            try:
                response = await client.post("chat/completions", json=body)
                if response.status_code == httpx.codes.OK:
                    data = response.json()
                    if isinstance(data, dict):
                        return data
                    problem = "the reply is no JSON object"
                else:
                    problem = f"HTTP {response.status_code}: {response.text[:200]}"
                    if response.status_code not in _REPEATABLE:
                        left = 0
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            except json.JSONDecodeError:
                problem = "the reply is no JSON"
            if left == 0:
                break
            await asyncio.sleep(wait)
            wait *= 2
        raise AnnotatorError(f"annotator endpoint {settings.base_url}: {problem}")
