"""The holdout where operators have ceilings, what has no part in it, and what a restart keeps."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
import yaml

from extracot_server.budget.holdout import MIN_FOR_BASELINE
from extracot_server.cli import _announcement
from tests.server.holdouts import send, standing
from tests.server.live import Live, serve


def ceilings(tmp_path: Path, **entry: object) -> Path:
    path = tmp_path / "k.yaml"
    entries = [{"name": "free", "key": "free"}, {"name": "tight", "key": "tight", **entry}]
    path.write_text(yaml.safe_dump({"keys": entries}))
    return path


def test_what_is_excluded_is_counted_by_its_reason(tmp_path: Path) -> None:
    path = ceilings(tmp_path, ceiling=0.6)
    with serve(keys=path, holdout_fraction=1.0) as live:
        live.http.headers["authorization"] = "Bearer tight"
        for number in range(3):
            send(live, number, budget=0.4)
        live.http.headers["authorization"] = "Bearer free"
        send(live, 1, budget="none")
        send(live, 1, budget={"ratio": 0.4, "enforce": "hard"})
        send(live, 1, budget={"ratio": 0.4, "max_reasoning_tokens": 9})
        send(live, 1, budget="native")
        found = standing(live)
        assert found["excluded"] == {"ceiling": 3, "limit": 2, "none": 1}
        assert set(found["arms"]) == {"budgeted", "holdout"}
        lines = announced(live)
        assert "holdout: 100.00% of budgeted requests run natively" in lines
        (excluded,) = [line for line in lines if "key tight" in line]
        assert "may not run natively" in excluded and "--holdout-at-ceiling" in excluded
        assert "key free" not in excluded


def announced(live: Live) -> list[str]:
    """What the command says when it is ready."""
    listener = live.server.servers[0].sockets[0]
    settings = live.app.state.extracot.settings
    return list(_announcement(live.app, settings, listener, 1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("card", [None, "none"])
def test_requests_under_a_ceiling_are_compared_at_it(tmp_path: Path, card: str | None) -> None:
    path = ceilings(tmp_path, ceiling=0.8)
    more = {} if card is None else {"card": card, "assumed_reasoning_tokens": 100}
    with serve(
        keys=path, holdout_fraction=0.5, holdout_seed=5, holdout_at_ceiling=True, **more
    ) as live:
        live.http.headers["authorization"] = "Bearer tight"
        reports = [send(live, number, budget=0.2) for number in range(60)]
        at = [r for r in reports if r["arm"] == "ceiling"]
        below = [r for r in reports if r["arm"] == "below_ceiling"]
        assert len(at) + len(below) == 60 and min(len(at), len(below)) >= 15
        assert {r["applied_ratio"] for r in at} == {0.8}
        assert {r["applied_ratio"] for r in below} == {0.2}
        assert send(live, 1, budget=0.8)["arm"] is None, "it is there already"
        assert send(live, 1, budget=None)["arm"] is None, "native becomes the ceiling itself"
        found = standing(live)
        assert found["excluded"]["ceiling"] == 2
        assert found["arms"]["holdout"]["requests"] == 0 and found["saving_per_reply"] is None
        truth = mean(r["reasoning_tokens"] for r in at) - mean(r["reasoning_tokens"] for r in below)
        assert found["saving_per_reply_to_ceiling"]["mean"] == pytest.approx(truth)
        live.http.headers["authorization"] = "Bearer free"
        assert {send(live, n, budget=0.2)["arm"] for n in range(20)} == {"budgeted", "holdout"}
        assert live.app.state.extracot.without_holdout() == []


def test_a_ceiling_in_tokens_stays_out_of_every_arm(tmp_path: Path) -> None:
    path = ceilings(tmp_path, reasoning_tokens_ceiling=50)
    with serve(keys=path, holdout_fraction=1.0, holdout_at_ceiling=True) as live:
        live.http.headers["authorization"] = "Bearer tight"
        assert send(live, 1, budget=0.2)["arm"] is None
        assert standing(live)["excluded"] == {"ceiling": 1, "limit": 0, "none": 0}
        assert live.app.state.extracot.without_holdout() == ["key tight"]


def test_the_comparison_survives_a_restart(tmp_path: Path) -> None:
    settings = {
        "card": "none",
        "assumed_reasoning_tokens": 1000,
        "holdout_fraction": 0.5,
        "holdout_seed": 3,
        "usage_store": str(tmp_path / "usage.sqlite"),
    }
    with serve(**settings) as live:
        for number in range(3 * MIN_FOR_BASELINE):
            send(live, number, budget=0.5)
        send(live, 0, budget="none")
        before = standing(live)
        assert live.http.get("/v1/budget").json()["baseline"]["source"] == "holdout"
    with serve(**settings) as live:
        after = standing(live)
        for arm in ("budgeted", "holdout"):
            assert after["arms"][arm] == pytest.approx(before["arms"][arm])
        for part in ("since", "excluded", "fraction"):
            assert after[part] == before[part]
        assert after["saving_per_reply"] == pytest.approx(before["saving_per_reply"])
        assert after["against_baseline"] == pytest.approx(before["against_baseline"])
        assert send(live, 1, budget=0.5)["baseline_source"] == "holdout"
    with serve(**{**settings, "holdout_fraction": 0.25}) as live:
        assert standing(live)["arms"]["holdout"]["requests"] == 0, "another share, another one"
