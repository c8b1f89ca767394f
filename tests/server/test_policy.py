"""What a key allows: it narrows the server's policy, and every change is in the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extracot_server.admission.keys import ANONYMOUS, Principal
from extracot_server.budget.resolve import BudgetPolicy, BudgetSources, resolve_budget
from extracot_server.budget.values import parse_budget
from extracot_server.engine.scripted.engine import scripted_card
from tests.server.live import Live, serve, user

CARD = scripted_card()
KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "thrifty": {"default": 0.2, "ceiling": 0.4},
    "careful": {"floor": 0.8},
    "capped": {"reasoning_tokens_ceiling": 7},
    "mute": {"reasoning_tokens_ceiling": 0},
    "auto": {"default": "auto", "ceiling": 0.6},
    "vip": {"priority": -3},
}
BOUND = st.none() | st.floats(0.01, 1.0)
CAP = st.none() | st.integers(0, 500)


def ranges() -> st.SearchStrategy[tuple[float | None, float | None]]:
    """A floor and a ceiling that do not contradict each other."""
    return st.tuples(BOUND, BOUND).filter(lambda r: None in r or r[0] <= r[1])


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose keys are named as in ``KEYS``; a name is its key, too."""
    path = tmp_path_factory.mktemp("policy") / "keys.yaml"
    entries = [{"name": name, "key": name, **rest} for name, rest in KEYS.items()]
    path.write_text(yaml.safe_dump({"keys": entries}))
    with serve(keys=path) as server:
        yield server


def budget(live: Live, key: str, **fields: Any) -> dict[str, Any]:
    """The report of a request with this key."""
    headers = {"authorization": f"Bearer {key}"}
    body = {"messages": user(), **fields}
    response = live.http.post("/v1/chat/completions", headers=headers, json=body)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()["budget"]
    return report


@pytest.mark.parametrize(
    ("key", "asked", "applied", "level"),
    [
        ("plain", None, None, "native"),
        ("plain", 0.8, 0.8, "0.8"),
        ("thrifty", None, 0.2, "0.2"),
        ("thrifty", 0.8, 0.4, "0.2"),  # 0.4 realises 0.41, which is above the ceiling
        ("thrifty", "native", 0.4, "0.2"),
        ("thrifty", 0.1, 0.1, "0.2"),
        ("careful", 0.2, 0.8, "1.0"),  # 0.8 realises 0.79
        ("careful", "none", 0.8, "1.0"),
        ("careful", "native", None, "native"),
    ],
)
def test_what_a_key_changes_is_reported(
    live: Live, key: str, asked: Any, applied: float | None, level: str
) -> None:
    report = budget(live, key, **({} if asked is None else {"budget": asked}))
    assert report["requested"] == asked
    assert report["source"] == ("default" if asked is None else "budget")
    assert report["applied_ratio"] == applied
    assert report["level"] == level


def test_a_keys_ceiling_of_tokens_is_a_hard_cap(live: Live) -> None:
    for asked in (None, 1.0, "native", "auto", {"max_reasoning_tokens": 300}):
        report = budget(live, "capped", **({} if asked is None else {"budget": asked}))
        assert report["reasoning_tokens"] == 7
        assert report["cap_hit"] and report["cap_reason"] == "operator"
        assert report["max_reasoning_tokens"] == 7
    report = budget(live, "capped", budget={"max_reasoning_tokens": 3})
    assert (report["reasoning_tokens"], report["cap_reason"]) == (3, "client")
    assert budget(live, "mute", budget=0.8)["level"] == "none"


def test_auto_chooses_within_a_keys_range(live: Live) -> None:
    for seed in range(8):
        report = budget(live, "auto", seed=seed)
        assert report["source"] == "default"
        assert report["chosen"] in ("0.2", "0.4", "0.6")


def test_alias_and_effort_are_narrowed_too(live: Live) -> None:
    report = budget(live, "thrifty", model="scripted@1.0")
    assert (report["source"], report["applied_ratio"]) == ("alias", 0.4)
    report = budget(live, "thrifty", reasoning_effort="max")
    assert (report["source"], report["requested"]) == ("reasoning_effort", "max")
    assert report["applied_ratio"] == 0.4


def test_the_header_and_the_stream_say_the_same(live: Live) -> None:
    headers = {"authorization": "Bearer thrifty"}
    body = {"messages": user(), "budget": 1.0, "stream": True}
    response = live.http.post("/v1/chat/completions", headers=headers, json=body)
    assert '"applied_ratio": 0.4' in response.headers["x-extracot-budget"]
    assert re.search(r'"requested":1(\.0)?,', response.text)
    assert '"applied_ratio":0.4' in response.text


def test_a_key_reads_its_own_policy(live: Live) -> None:
    headers = {"authorization": "Bearer thrifty"}
    found = live.http.get("/v1/budget", headers=headers).json()
    assert found["policy"]["default"] == 0.2
    assert found["policy"]["ceiling"] == 0.4
    assert [lv["name"] for lv in found["levels"] if lv["allowed_by_policy"]] == ["0.2"]
    model = live.http.get("/v1/models/scripted", headers=headers).json()
    assert [lv["allowed_by_policy"] for lv in model["budget"]["levels"]] == [True] + [False] * 4
    plain = live.http.get("/v1/budget", headers={"authorization": "Bearer plain"}).json()
    assert plain["policy"]["default"] == "native"


def test_priority_reaches_the_engine(live: Live) -> None:
    for key, priority in (("vip", -3), ("plain", 0)):
        budget(live, key, budget="auto")
        assert [r.priority for r in list(live.engine.requests)[-2:]] == [priority] * 2


def test_labels_stay_bounded(live: Live) -> None:
    budget(live, "vip", budget=0.4)
    labels = [label for _, has in live.metrics() for label in has]
    assert {value for name, value in labels if name == "key"} <= set(KEYS)
    assert {value for name, value in labels if name != "key"}.isdisjoint(set(KEYS) - {"auto"})


@given(server=ranges(), key=ranges(), caps=st.tuples(CAP, CAP))
def test_a_key_never_leaves_the_servers_range(
    server: tuple[float | None, float | None],
    key: tuple[float | None, float | None],
    caps: tuple[int | None, int | None],
) -> None:
    policy = BudgetPolicy(floor=server[0], ceiling=server[1], reasoning_tokens_ceiling=caps[0])
    principal = Principal("k", floor=key[0], ceiling=key[1], reasoning_tokens_ceiling=caps[1])
    found = principal.narrow(policy)
    low, high = server[0] or 0.0, 1.0 if server[1] is None else server[1]
    for bound in (found.floor, found.ceiling):
        assert bound is None or low <= bound <= high
    assert (found.floor or 0.0) <= (1.0 if found.ceiling is None else found.ceiling)
    assert (found.floor is None) is (server[0] is None and key[0] is None)
    assert (found.ceiling is None) is (server[1] is None and key[1] is None)
    given_caps = [cap for cap in caps if cap is not None]
    assert found.reasoning_tokens_ceiling == (min(given_caps) if given_caps else None)
    assert ANONYMOUS.narrow(policy) == policy


@given(
    server=ranges(),
    key=ranges(),
    asked=st.floats(0.01, 1.0) | st.sampled_from(["native", "none"]),
)
def test_what_is_applied_lies_within_both_where_they_meet(
    server: tuple[float | None, float | None],
    key: tuple[float | None, float | None],
    asked: float | str,
) -> None:
    policy = Principal("k", floor=key[0], ceiling=key[1]).narrow(
        BudgetPolicy(floor=server[0], ceiling=server[1])
    )
    resolved = resolve_budget(BudgetSources(parse_budget(asked)), CARD, policy)
    assert resolved.requested == asked
    ratio = resolved.applied_ratio
    if ratio is None:
        return
    lows = [bound for bound in (server[0], key[0]) if bound is not None]
    highs = [bound for bound in (server[1], key[1]) if bound is not None]
    if max(lows, default=0.0) <= min(highs, default=1.0):
        assert max(lows, default=0.0) <= ratio <= min(highs, default=1.0)
    assert (server[0] or 0.0) <= ratio <= (1.0 if server[1] is None else server[1])
