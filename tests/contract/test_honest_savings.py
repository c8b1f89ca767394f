"""No saving is reported that is larger than the true one beyond its interval.

Over any traffic of an engine whose native replies are known: report, metrics, sweep, commands.

The card is true of its own kind of prompts. To all others the engine natively gives no reasoning at
all, so that whoever claims the card's baseline for them claims a hundred tokens too many.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot.sketch import PromptSketch
from extracot_client import Extracot, SweepProblem, summarise
from extracot_client.cli import main
from extracot_server.engine.base import GenerationDelta, GenerationRequest
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine, scripted_card
from extracot_server.engine.scripted.model import NATURAL_TOKENS
from tests.server.key_files import bearer, write
from tests.server.live import Live, serve, user

KNOWN = "What is {} times 3?"
OTHER = "Tell me about the number {}."
# Native lengths are uniform: how far a mean of the card may be off for n of them (four standard
# deviations, and a token for the answer).
SPREAD = (NATURAL_TOKENS[1] - NATURAL_TOKENS[0]) / math.sqrt(12)

NUMBERS = st.integers(100, 999)
BUDGETS = st.sampled_from(
    [0.2, 0.4, 0.6, 0.8, 1.0, "auto", "none", "native", {"max_reasoning_tokens": 30}, None]
)
REQUESTS = st.tuples(st.sampled_from([KNOWN, OTHER]), NUMBERS, BUDGETS, st.sampled_from([None, 12]))
TRAFFIC = st.lists(REQUESTS, min_size=1, max_size=40, unique_by=lambda asked: asked[:2])


class TwoKinds(ScriptedEngine):
    """Reasons natively about its own kind of prompts only."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = ScriptedEngine(ScriptedBehaviour(opens_think=False))

    async def start(self) -> None:
        """Both."""
        await super().start()
        await self.plain.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """By the one that the prompt is for."""
        other = OTHER[:10] in self.tokenizer.decode(request.token_ids)
        engine = self.plain.generate if other else super().generate
        async for delta in engine(request):
            yield delta


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    sketch = PromptSketch.of(KNOWN.format(n) for n in range(100, 1000))
    card = scripted_card().model_copy(update={"prompts": sketch})
    path = card.save(tmp_path_factory.mktemp("card"))
    with serve(on=TwoKinds(), card=str(path)) as running:
        yield running


def spent(reply: dict[str, Any]) -> int:
    return int(reply["budget"]["reasoning_tokens"]) + int(reply["budget"]["answer_tokens"])


def net(live: Live, name: str) -> float:
    kept = live.metric_sum(f"extracot_{name}_saved_total")
    return kept - live.metric_sum(f"extracot_{name}_overspent_total")


def slack(n: int) -> float:
    return 4 * SPREAD * math.sqrt(n) + n


@given(traffic=TRAFFIC)
def test_reports_and_metrics(live: Live, traffic: list[tuple[str, int, Any, int | None]]) -> None:
    before = {name: net(live, name) for name in ("tokens", "total_tokens")}
    claimed, true = {"tokens": 0.0, "total_tokens": 0.0}, {"tokens": 0.0, "total_tokens": 0.0}
    claims = 0
    for form, number, budget, max_tokens in traffic:
        asked = user(form.format(number))
        report = (reply := live.chat(messages=asked, budget=budget, max_tokens=max_tokens))[
            "budget"
        ]
        saved, total = report["saved_tokens_estimate"], report["total_saved_tokens_estimate"]
        assert (saved is None) == (report["no_saving"] is not None)
        if form is OTHER:
            assert saved is total is None and report["calibrated"] is False
        if total is None:
            continue
        assert saved is not None or total <= 0
        claims += 1
        native = live.chat(messages=asked, budget="native")
        claimed["tokens"] += saved or 0.0
        claimed["total_tokens"] += total
        if saved is not None:
            true["tokens"] += native["budget"]["reasoning_tokens"] - report["reasoning_tokens"]
        true["total_tokens"] += spent(native) - spent(reply)
    for name, sum_ in claimed.items():
        assert sum_ <= true[name] + slack(claims)
        assert net(live, name) - before[name] == pytest.approx(sum_, abs=1e-6)


def test_replies_that_never_end_count_with_what_they_cost(tmp_path: Path) -> None:
    """Long above the baseline, and cut: no saving of reasoning, and an overspending in all."""
    with serve(ScriptedBehaviour(never_close=True), answer_reserve_tokens=4) as live:
        report = live.chat(budget=0.2, max_tokens=300, ignore_eos=True)["budget"]
        assert report["no_saving"] == "unfinished" and report["saved_tokens_estimate"] is None
        over = report["reasoning_tokens"] + report["answer_tokens"]
        over -= report["baseline_total_tokens"]
        assert over > 100 and report["total_saved_tokens_estimate"] == -over
        assert net(live, "total_tokens") == -over and net(live, "tokens") == 0
        short = live.chat(budget=0.2, max_tokens=20, ignore_eos=True)["budget"]
        assert short["no_saving"] == "unfinished" and short["total_saved_tokens_estimate"] == 0


@given(
    known=st.lists(NUMBERS, max_size=8, unique=True),
    other=st.lists(NUMBERS, max_size=8, unique=True),
    budgets=st.lists(st.sampled_from([0.2, 0.6, "auto", "none"]), min_size=1, unique=True),
    native=st.booleans(),
)
def test_sweeps(
    live: Live, known: list[int], other: list[int], budgets: list[Any], native: bool
) -> None:
    texts = [KNOWN.format(n) for n in known] + [OTHER.format(n) for n in other]
    problems = [SweepProblem(text, text) for text in texts]
    with Extracot(live.url) as client:
        rows = list(client.sweep(problems, [*budgets, "native"], concurrency=4))
    tokens = {(row.problem_id, str(row.budget)): row.completion_tokens or 0 for row in rows}
    kept = rows if native else [row for row in rows if row.budget != "native"]
    for summary in summarise(kept, budgets):
        if summary.budget == "native" or summary.total_saved_tokens is None:
            continue
        if native:
            assert summary.saved_against == "native rows" and summary.saved_rows == len(texts)
        counted = texts if native else texts[: len(known)]
        assert summary.saved_rows == len(counted)
        true = sum(tokens[text, "native"] - tokens[text, summary.budget] for text in counted)
        bound = 0.0 if native else slack(len(counted))
        assert summary.total_saved_tokens <= true + bound
        if summary.total_saved_low is not None:
            assert summary.total_saved_low <= true <= (summary.total_saved_high or 0.0)


def test_what_the_commands_print(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One prompt of another kind: natively no reasoning, so a level costs tokens."""
    problem, server = OTHER.format(777), ("--base-url", live.url)
    assert main(["ask", problem, "--budget", "0.2", *server]) == 0
    assert "saving not counted (the prompt is unlike the card's problems" in capsys.readouterr().err
    assert main(["compare", problem, "--budgets", "0.2,none,native", *server]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    at = head.index("saved") + len("saved")
    shown = {line.split()[0]: line[:at].split()[-1] for line in lines[:3]}
    assert shown["0.2"].startswith("-") and shown["none"] == "0" and shown["native"] == "–"
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(OTHER.format(n)) + "\n" for n in range(300, 312)))
    assert main(["sweep", str(file), "--budgets", "0.2,native", "--json", *server]) == 0
    low, _ = json.loads(capsys.readouterr().out)["summary"]
    assert low["total_saved_high"] < 0 and low["saved_against"] == "native rows"


class Mute(ScriptedEngine):
    """Ends every reply at once."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """The end and nothing before."""
        yield GenerationDelta((self.tokenizer.turn_end_id,), finish_reason="stop")


FORBIDDEN = ["none", {"max_reasoning_tokens": 0}, {"ratio": 0.4, "max_reasoning_tokens": 0}]
FORBIDDEN += [{"ratio": "none", "max_reasoning_tokens": 0}]


@pytest.mark.parametrize(
    ("settings", "budgets"),
    [({}, FORBIDDEN), ({"reasoning_tokens_ceiling": 0}, [None, 0.4, *FORBIDDEN])],
    ids=["client", "operator"],
)
def test_a_whole_answer_without_reasoning_saves_whoever_forbade_it(
    settings: dict[str, Any], budgets: list[Any]
) -> None:
    with serve(**settings) as live:
        for budget in budgets:
            report = live.chat(budget=budget)["budget"]
            assert (report["level"], report["reasoning_tokens"]) == ("none", 0)
            assert report["no_saving"] is None, budget
            assert report["saved_tokens_estimate"] == report["baseline_tokens"] > 0
            for tokens in (1, 4):
                cut = live.chat(budget=budget, max_tokens=tokens)["budget"]
                assert cut["no_saving"] == "unfinished" and cut["saved_tokens_estimate"] is None
                assert cut["total_saved_tokens_estimate"] == 0
        assert net(live, "tokens") == len(budgets) * report["baseline_tokens"]
    with serve(on=Mute(), **settings) as live:
        for budget in budgets:
            assert live.chat(budget=budget)["budget"]["no_saving"] == "unfinished", "it is empty"


def test_no_room_for_reasoning_saves_nothing() -> None:
    """The one token is a whole answer, and no budget kept it from reasoning."""
    with serve(ScriptedBehaviour(answers="4")) as live:
        reply = live.chat(budget=0.4, max_tokens=1, stop=["4"])
        assert reply["choices"][0]["finish_reason"] == "stop"
        report = reply["budget"]
        assert (report["level"], report["cap_reason"]) == ("none", "room")
        assert report["no_saving"] == "unfinished"


def test_a_quota_that_forbids_reasoning_saves_what_it_keeps_from_it(tmp_path: Path) -> None:
    quota = {"requests": 1, "per": "day", "when_over": {"budget": "none"}}
    keys = write(tmp_path / "keys.yaml", {"name": "a", "key": "sk-a", "quotas": [quota]})
    with serve(keys=keys, usage_store="memory") as live:

        def ask() -> dict[str, Any]:
            body = {"messages": user(), "budget": 0.4}
            reply = live.http.post("/v1/chat/completions", json=body, headers=bearer("sk-a"))
            report: dict[str, Any] = reply.json()["budget"]
            return report

        assert ask()["level"] == "0.4"
        second = ask()
        assert (second["level"], second["no_saving"]) == ("none", None)
        assert second["saved_tokens_estimate"] == second["baseline_tokens"]
