"""Rollouts from a running server of ours: stage reference over HTTP, levels and auto."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_training.config.reference import ReferenceConfig
from extracot_training.config.sampling import RolloutSamplingParams, ServerBackend
from extracot_training.errors import GenerationError
from extracot_training.generation.rollout.base import Rollout, RolloutRequest
from extracot_training.generation.rollout.engines import ServerRollouts
from extracot_training.pipeline.records import read_rows
from extracot_training.pipeline.reference_rows import ReferenceRow
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.reference.stage import run
from tests.contract.scripted import INSTRUCTION, problems, server
from tests.fixtures.tiny_model import build_tiny_model

PROMPT = PromptSettings(instruction=INSTRUCTION)
QUESTION = "What is 1 times 4?"


def backend(url: str, **changes: Any) -> ServerBackend:
    known = {"base_url": f"{url}/v1", "concurrency": 4, "retries": 1, "backoff_s": 0.0}
    return ServerBackend.model_validate(known | changes)


def rollouts(url: str, *requests: RolloutRequest, **changes: Any) -> list[Rollout]:
    made = ServerRollouts(backend(url, **changes), PROMPT, RolloutSamplingParams(max_tokens=600))
    with closing(made):
        return list(made.run(requests))


def request(level: float | None, seed: int = 1) -> RolloutRequest:
    return RolloutRequest(f"{level}/{seed}", QUESTION, (), level, seed)


def test_a_reference_is_measured_over_http(tmp_path: Path) -> None:
    """12 problems, every fourth with a gold that the engine does not give."""
    model = build_tiny_model(tmp_path / "model")
    PROMPT.save(model)
    with server(tmp_path / "card") as live:
        outcome = run(
            ReferenceConfig.model_validate(
                {
                    "input": problems(tmp_path / "problems", 13), "splits": ["test"], "k": 2,
                    "model": str(model), "out": tmp_path / "reference",
                    "drawing": {"max_tokens": 600},
                    "backend": backend(live.url).model_dump(mode="json"),
                }
            )
        )  # fmt: skip
    rows = list(read_rows(outcome.folder, ReferenceRow))
    assert len(rows) == 12
    solved = [row for row in rows if row.unanimous]
    assert len(solved) == 9 and all(row.r_star == 0.2 for row in solved)
    assert all(row.r_star == 1.0 for row in rows if not row.unanimous)
    assert all(row.l_ref and row.l_ref > 0 for row in rows)
    report = json.loads((outcome.folder / "report.json").read_text())
    realised = {level: of["realised"] for level, of in report["all"]["levels"].items()}
    assert list(realised.values()) == sorted(realised.values())
    assert realised["0.2"] == pytest.approx(0.2, abs=0.1) and realised["1"] == 1.0


@pytest.mark.parametrize("calibrated", [False, True])
def test_every_level_is_had_whatever_the_card_measured(tmp_path: Path, calibrated: bool) -> None:
    with server(tmp_path, calibrated=calibrated) as live:
        found = rollouts(live.url, *(request(level) for level in PROMPT.ratios))
    assert [one.level for one in found] == list(PROMPT.ratios)
    lengths = [one.reasoning_tokens for one in found]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]
    assert all(one.valid and one.total_tokens > one.reasoning_tokens for one in found)


def test_the_model_may_choose(tmp_path: Path) -> None:
    with server(tmp_path) as live:
        found = rollouts(live.url, *(request(None, seed) for seed in range(12)))
        again = rollouts(live.url, *(request(None, seed) for seed in range(12)))
    assert found == again and len({one.level for one in found}) > 1
    assert all(one.level in PROMPT.ratios and one.valid for one in found)


@pytest.mark.parametrize(
    "behaviour", [ScriptedBehaviour(never_close=True), ScriptedBehaviour(eos_in_reasoning=5)]
)
def test_a_block_that_the_model_did_not_close_is_not_closed(
    tmp_path: Path, behaviour: ScriptedBehaviour
) -> None:
    with server(tmp_path, behaviour) as live:
        (found,) = rollouts(live.url, request(1.0))
    assert not found.closed and not found.valid and found.boxed is None
    assert found.reasoning_tokens >= 5


def test_what_stands_between_is_named(tmp_path: Path) -> None:
    with (
        server(tmp_path, settings={"budget_ceiling": 0.5}) as live,
        pytest.raises(GenerationError, match="ceiling"),
    ):
        rollouts(live.url, request(1.0))
    with server(tmp_path) as live:
        known = PromptSettings(ratios=(0.3, 1.0))
        with pytest.raises(GenerationError, match=r"no level 0\.3"):
            ServerRollouts(backend(live.url), known, RolloutSamplingParams())
        with pytest.raises(GenerationError, match="HTTP 404"):
            rollouts(live.url, model="another")
    with pytest.raises(GenerationError, match="budget"):
        rollouts(live.url)  # it has stopped
    with pytest.raises(GenerationError, match="NO_SUCH_KEY"):
        rollouts(live.url, api_key_env="NO_SUCH_KEY")
