"""Quotas, usage, the holdout and batches in front of an OpenAI-compatible server: by its usage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.server.batch_client import ended, jsonl, line, rows, sdk, submit
from tests.server.engine.chat_fakes import FakeChat, in_front_of
from tests.server.holdouts import send, standing
from tests.server.key_files import bearer, write
from tests.server.live import QUESTION, Live, user

PROMPT = len(QUESTION.split()) + 3
"""As the fake counts it."""
WHOLE = PROMPT + 45
"""A reply without a budget, prompt and all."""


def ask(live: Live, key: str, **fields: Any) -> httpx.Response:
    body = {"messages": user(), "max_tokens": 100, **fields}
    return live.http.post("/v1/chat/completions", json=body, headers=bearer(f"sk-{key}"))


def test_usage_and_quotas_go_by_what_the_server_says(tmp_path: Path) -> None:
    keys = write(
        tmp_path / "keys.yaml",
        {"name": "hard", "key": "sk-hard", "quotas": [{"tokens": 200, "per": "day"}]},
        {
            "name": "soft",
            "key": "sk-soft",
            "quotas": [{"tokens": 50, "per": "day", "when_over": {"budget": 0.02}}],
        },
    )
    fake = FakeChat(counts="each")
    own = {"keys": keys, "usage_store": "memory"}
    with in_front_of(fake, **own) as live:
        first = ask(live, "hard")
        assert first.json()["usage"]["total_tokens"] == WHOLE
        assert ask(live, "hard", stream=True).status_code == 200
        refused = ask(live, "hard")
        assert refused.status_code == 429
        assert refused.headers["x-ratelimit-remaining-tokens"] == str(200 - 2 * WHOLE)
        (row,) = live.http.get("/v1/usage", headers=bearer("sk-hard")).json()["data"]
        assert (row["requests"], row["prompt_tokens"]) == (2, 2 * PROMPT)
        assert (row["reasoning_tokens"], row["completion_tokens"]) == (80, 90)
        assert ask(live, "soft").json()["budget"]["reasoning_tokens"] == 40
        lowered = ask(live, "soft").json()["budget"]
        assert (lowered["applied_ratio"], lowered["max_reasoning_tokens"]) == (0.02, 10)
        assert lowered["reasoning_tokens"] <= 12 and lowered["enforcement"] == "cap"


def test_a_refusal_of_the_server_costs_nothing(tmp_path: Path) -> None:
    quota = [{"requests": 1, "per": "day"}]
    keys = write(tmp_path / "keys.yaml", {"name": "a", "key": "sk-a", "quotas": quota})
    fake = FakeChat(refusal=(400, {"error": {"message": "no"}}))
    with in_front_of(fake, keys=keys, usage_store="memory") as live:
        assert ask(live, "a").status_code == 400
        fake.refusal = None
        assert ask(live, "a").status_code == 200
        assert ask(live, "a").status_code == 429


def test_the_holdout_compares_by_its_counts() -> None:
    fake = FakeChat(counts="each")
    with in_front_of(fake, holdout_fraction=0.5, usage_store="memory") as live:
        reports = [send(live, number, budget=0.02) for number in range(40)]
        by_arm: dict[str, set[int]] = {}
        for report in reports:
            by_arm.setdefault(report["arm"], set()).add(report["reasoning_tokens"])
        assert by_arm["holdout"] == {40} and max(by_arm["budgeted"]) <= 12
        assert standing(live)["saving_per_reply"]["mean"] >= 28


def test_the_holdout_leaves_out_what_a_filter_has_ended() -> None:
    fake = FakeChat(counts="each", finish="content_filter")
    with in_front_of(fake, holdout_fraction=0.5, usage_store="memory") as live:
        for number in range(6):
            assert send(live, number, budget=0.02)["finish"] == ["content_filter"]
        arms = standing(live)["arms"]
        assert sum(arm["left_out"] for arm in arms.values()) == 6
        assert not any(arm["requests"] for arm in arms.values())


def test_a_batch_runs_there(tmp_path: Path) -> None:
    fake = FakeChat(counts="each")
    lines = [line(n, budget={"max_reasoning_tokens": 10}) for n in range(3)]
    with in_front_of(fake, batch_folder=tmp_path / "batches") as live, sdk(live) as client:
        done = ended(client, submit(client, jsonl(*lines)).id)
        assert done.status == "completed" and done.usage is not None
        assert done.usage.output_tokens_details.reasoning_tokens == 30
        found = rows(client, done.output_file_id)
        texts = [row["response"]["body"]["choices"][0]["message"]["content"] for row in found]
        assert texts == ["The answer is 40."] * 3
