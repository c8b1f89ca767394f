"""The bundled model `small` on real vLLM: it has learnt its budgets, and says what they saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extracot.card import BudgetCard
from extracot_server.engine.vllm.engine import VllmEngine
from extracot_server.model_registry.resolving import SHIPPED
from tests.server.live import Live, serve, user

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]

FOLDER = SHIPPED["small"]
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
LEVELS = ("0.2", "0.4", "0.6", "0.8", "1.0")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """On a machine without a C++ compiler, and with nothing compiled before."""
    engine = VllmEngine(str(FOLDER), engine_args={}, shutdown_grace=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "/nowhere/g++")
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        with serve(on=engine, engine="vllm", model="small", served_model_name="small") as running:
            yield running


def asked() -> str:
    """The problem of the README's first example."""
    found = re.search(r'"content": "([^"]+)"', README)
    assert found is not None
    return found[1]


def test_the_readmes_problem_is_solved_at_every_budget(small: Live) -> None:
    lengths, savings, answers = {}, {}, set()
    for budget in (0.2, 1.0, "auto"):
        reply = small.chat(messages=user(asked()), budget=budget, temperature=0, max_tokens=400)
        report = reply["budget"]
        assert (report["enforcement"], report["calibrated"]) == ("token", True)
        lengths[budget] = report["reasoning_tokens"]
        savings[budget] = report["saved_tokens_estimate"]
        answers.update(re.findall(r"\\boxed\{(\d+)\}", reply["choices"][0]["message"]["content"]))
    assert answers == {readmes_answer()}
    assert lengths[0.2] <= lengths["auto"] < lengths[1.0]
    assert lengths[0.2] < 0.4 * lengths[1.0]
    assert savings[0.2] > 0 and savings["auto"] > 0
    counted = small.metric_sum("extracot_tokens_saved_total")
    counted -= small.metric_sum("extracot_tokens_overspent_total")
    assert counted == pytest.approx(sum(savings.values()))


def test_auto_goes_by_what_is_asked(small: Live) -> None:
    """The card's examples tell the same stories and ask for one, for the sum of two, of three."""
    chosen, right = [], ("11", "23", "34")
    examples = BudgetCard.load(FOLDER).examples
    for question, answer in zip(examples, right, strict=True):
        reply = small.chat(messages=user(question), budget="auto", temperature=0, max_tokens=400)
        assert f"\\boxed{{{answer}}}" in reply["choices"][0]["message"]["content"]
        chosen.append(reply["budget"]["chosen"])
    assert chosen == ["0.2", "0.6", "0.6"]


def readmes_answer() -> str:
    found = re.search(r"\\boxed\{(\d+)\}", README)
    assert found is not None
    return found[1]


def test_many_seeded_requests_at_once_do_not_take_the_engine_down(small: Live) -> None:
    # More prompt tokens than vLLM puts into one step: it would cut prompts in two, which on a CPU
    # ends it as soon as one of them is seeded (docs/reliability.md).
    fields = {"messages": user(" ".join([asked()] * 4)), "budget": 0.2, "max_tokens": 8}

    def status(seed: int) -> int:
        return small.post(**fields, seed=seed).status_code

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(status, range(24))) == {200}
    assert small.http.get("/ready").status_code == 200


def test_its_card_is_measured_and_small_enough_to_come_along() -> None:
    card = BudgetCard.load(FOLDER)
    assert card.is_calibrated and card.policy is not None
    card.check_increasing()
    assert [level.name for level in card.levels] == list(LEVELS)
    for level in card.levels:
        assert level.realised is not None and level.n is not None and level.n >= 2000
        assert abs(level.realised.mean - level.ratio) <= 0.05
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size <= 25 * 2**20
    assert not [path for path in FOLDER.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
