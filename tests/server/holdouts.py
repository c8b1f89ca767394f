"""What tests of the holdout ask of a server."""

from __future__ import annotations

from typing import Any

from tests.server.live import Live, user


def send(live: Live, number: int, **fields: Any) -> dict[str, Any]:
    """One problem of many; the report, with how the reply ended."""
    reply = live.chat(messages=user(f"Problem {number}: how many apples?"), **fields)
    report: dict[str, Any] = reply["budget"]
    return report | {"finish": [choice["finish_reason"] for choice in reply["choices"]]}


def standing(live: Live) -> dict[str, Any]:
    """What ``GET /v1/budget`` says of the holdout."""
    found: dict[str, Any] = live.http.get("/v1/budget").json()["holdout"]
    return found
