"""What tests of batches share: inputs, and waiting for an end."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types import Batch

from tests.server.live import NO_RETRY, Live, user, wait_for

CHAT = "/v1/chat/completions"
ENDED = {"completed", "failed", "expired", "cancelled"}


def line(number: int, url: str = CHAT, **fields: Any) -> dict[str, Any]:
    """A request of a batch."""
    body = {"messages": user(f"What is {number} * 3 + 4?"), "budget": 0.2, **fields}
    return {"custom_id": f"r{number}", "method": "POST", "url": url, "body": body}


def jsonl(*lines: Any) -> bytes:
    """Lines of a file; bytes are taken as they are."""
    raw = (one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)
    return b"".join(one + b"\n" for one in raw)


def sdk(live: Live, key: str = "none") -> openai.OpenAI:
    """OpenAI's SDK with a key."""
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, **NO_RETRY)  # type: ignore[arg-type]


def submit(client: openai.OpenAI, content: bytes, url: Any = CHAT, **fields: Any) -> Batch:
    """Upload a file and start a batch of it."""
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    options: dict[str, Any] = {"completion_window": "24h", **fields}
    return client.batches.create(input_file_id=file.id, endpoint=url, **options)


def ended(client: openai.OpenAI, batch_id: str) -> Batch:
    """The batch once it has ended."""
    wait_for(lambda: client.batches.retrieve(batch_id).status in ENDED)
    return client.batches.retrieve(batch_id)


def rows(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file; none without one."""
    if file_id is None:
        return []
    return [json.loads(one) for one in client.files.content(file_id).text.splitlines()]
