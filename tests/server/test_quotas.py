"""Quotas of keys and groups over HTTP: refused or lowered, what is left, usage by key."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from extracot_server.admission.keys import KeysError, KeyStore
from extracot_server.config.settings import Settings, SettingsError, load_settings
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.ledger.open import open_ledger
from extracot_server.ledger.store import StoreError
from tests.server.key_files import bearer, write
from tests.server.live import Live, serve, user

NOON = 1_795_953_600.0  # 2026-11-29T12:00:00Z


def entry(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "key": f"sk-{name}", **more}


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Live]:
    path = write(
        tmp_path / "keys.yaml",
        entry("requests", quotas=[{"requests": 3, "per": "day"}]),
        entry("tokens", quotas=[{"tokens": 1000, "per": "month"}]),
        entry("soft", quotas=[{"tokens": 100, "per": "day", "when_over": {"budget": 0.2}}]),
        entry("mute", quotas=[{"requests": 1, "per": "day", "when_over": {"budget": "none"}}]),
        entry("one", group="team"),
        entry("two", group="team", quotas=[{"tokens": 10**6, "per": "minute"}]),
        entry("free"),
        entry("boss", admin=True),
        groups=[{"name": "team", "quotas": [{"requests": 4, "per": "month"}]}],
    )
    with serve(keys=path, usage_store=str(tmp_path / "usage.sqlite")) as live:
        live.app.state.extracot.meter.clock = lambda: NOON
        yield live


def ask(live: Live, name: str, **fields: Any) -> httpx.Response:
    body = {"messages": user(), "max_tokens": 200, **fields}
    return live.http.post("/v1/chat/completions", json=body, headers=bearer(f"sk-{name}"))


def usage(live: Live, name: str, **query: object) -> list[dict[str, Any]]:
    window = {"start": "2026-11-01", "end": "2026-12-03", **query}
    found = live.http.get("/v1/usage", params=window, headers=bearer(f"sk-{name}"))
    assert found.status_code == 200, found.text
    rows: list[dict[str, Any]] = found.json()["data"]
    return rows


def test_a_quota_of_requests_says_what_is_left_and_when(keyed: Live) -> None:
    for left in (2, 1, 0):
        reply = ask(keyed, "requests")
        assert reply.status_code == 200
        assert reply.headers["x-ratelimit-limit-requests"] == "3"
        assert reply.headers["x-ratelimit-remaining-requests"] == str(left)
        assert reply.headers["x-ratelimit-reset-requests"] == "12h0m0s"
        assert "x-ratelimit-limit-tokens" not in reply.headers
    refused = ask(keyed, "requests")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == str(12 * 3600)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    error = refused.json()["error"]
    assert error["code"] == "insufficient_quota" and error["type"] == "rate_limit_error"
    assert error["message"] == (
        "Quota of key requests: 3 requests a day. 0 are left until 2026-11-30T00:00:00Z."
    )
    assert keyed.metric_sum("extracot_rejected_total", reason="insufficient_quota") == 1
    keyed.app.state.extracot.meter.clock = lambda: NOON + 12 * 3600
    assert ask(keyed, "requests").status_code == 200, "a new day"
    keyed.app.state.extracot.meter.clock = lambda: NOON
    assert ask(keyed, "requests").status_code == 429, "a clock that is set back finds its old day"


def test_tokens_are_claimed_at_first_and_settled_at_the_end(keyed: Live) -> None:
    first = ask(keyed, "tokens", max_tokens=600)
    used = first.json()["usage"]
    left = int(first.headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - used["prompt_tokens"] - 600, "all that it might have taken"
    refused = ask(keyed, "tokens", max_tokens=999)
    assert refused.status_code == 429 and "smaller `max_tokens`" in refused.text
    second = ask(keyed, "tokens", max_tokens=100)
    took = used["prompt_tokens"] + 100
    assert int(second.headers["x-ratelimit-remaining-tokens"]) == (
        1000 - used["total_tokens"] - took
    ), "the first gave back what it did not take"


def test_streams_and_several_choices_and_other_apis_count(keyed: Live) -> None:
    headers = bearer("sk-tokens")
    body = {"model": "scripted", "max_tokens": 60, "messages": user()}
    message = keyed.http.post("/v1/messages", json=body, headers=headers)
    assert message.headers["x-ratelimit-limit-tokens"] == "1000"
    several = ask(keyed, "tokens", max_tokens=60, n=3)
    prompt = several.json()["usage"]["prompt_tokens"]
    spent = sum(message.json()["usage"][kind] for kind in ("input_tokens", "output_tokens"))
    assert int(several.headers["x-ratelimit-remaining-tokens"]) == 1000 - spent - prompt - 180
    stream = ask(keyed, "tokens", max_tokens=60, stream=True)
    assert "x-ratelimit-remaining-tokens" in stream.headers
    row = usage(keyed, "tokens")[0]
    assert row["requests"] == 3
    assert row["completion_tokens"] >= several.json()["usage"]["completion_tokens"]


def test_what_is_in_flight_does_not_overshoot(tmp_path: Path) -> None:
    quota = {"tokens": 2000, "per": "day"}
    path = write(tmp_path / "keys.yaml", entry("busy", quotas=[quota]), entry("boss", admin=True))
    with serve(keys=path, max_running=2) as live, ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda _: ask(live, "busy", max_tokens=150), range(48)))
        served = [reply.json()["usage"]["total_tokens"] for reply in replies if reply.is_success]
        assert {reply.status_code for reply in replies} == {200, 429}
        assert sum(served) <= 2000
        rows = live.http.get("/v1/usage", headers=bearer("sk-boss")).json()["data"]
        assert [row["requests"] for row in rows] == [len(served)]
        assert rows[0]["prompt_tokens"] + rows[0]["completion_tokens"] == sum(served)


def test_a_soft_quota_lowers_the_budget_instead(keyed: Live) -> None:
    before = ask(keyed, "soft", budget=1.0).json()["budget"]
    assert before["applied_ratio"] == 1.0
    after = ask(keyed, "soft", budget=1.0)
    report = after.json()["budget"]
    assert (report["requested"], report["applied_ratio"], report["level"]) == (1.0, 0.2, "0.2")
    assert ask(keyed, "soft").json()["budget"]["applied_ratio"] == 0.2, "native is lowered, too"
    assert ask(keyed, "soft", budget="none").json()["budget"]["level"] == "none"
    assert ask(keyed, "mute", budget=0.8).json()["budget"]["applied_ratio"] == 0.8
    assert ask(keyed, "mute", budget=0.8).json()["budget"]["level"] == "none"
    labels = {"owner": "key soft", "kind": "tokens", "per": "day", "when_over": "lower"}
    assert keyed.metric_sum("extracot_quota_used_ratio", **labels) == 1.0


def test_gauges_are_of_quotas_that_there_are(tmp_path: Path) -> None:
    """A quota that is gone is shown no more; of two with the same labels, the fuller one is."""
    path, name = tmp_path / "keys.yaml", "extracot_quota_used_ratio"
    day, low = {"per": "day"}, {"when_over": {"budget": 0.4}}
    write(
        path, entry("a", quotas=[{"requests": 3, **day}]), entry("b", quotas=[{"tokens": 1, **day}])
    )
    with serve(keys=path) as live:
        assert [ask(live, "a").status_code for _ in range(3)] == [200] * 3
        live.wait_for(lambda: live.metric_sum(name, owner="key a") == 1.0)
        two = [
            {"tokens": 100, **day, **low},
            {"tokens": 10**6, **day, "when_over": {"budget": 0.2}},
        ]
        write(path, entry("a", quotas=two))
        live.app.state.extracot.reload_keys()
        assert live.metric_sum(name) == 0
        assert ask(live, "a").status_code == ask(live, "a").status_code == 200
        assert live.metric_sum(name, owner="key a", kind="tokens", when_over="lower") == 1.0


def test_a_group_shares_its_quota(keyed: Live) -> None:
    assert [ask(keyed, name).status_code for name in ("one", "two", "one", "two")] == [200] * 4
    for name in ("one", "two"):
        refused = ask(keyed, name)
        assert refused.status_code == 429
        assert "Quota of group team: 4 requests a month" in refused.json()["error"]["message"]
        assert "2026-12-01T00:00:00Z" in refused.text, "the end of the month"
    assert ask(keyed, "free").status_code == 200
    assert "x-ratelimit-limit-tokens" not in ask(keyed, "free").headers


def test_requests_that_are_not_served_cost_nothing(keyed: Live) -> None:
    for _ in range(5):
        assert ask(keyed, "requests", temperature=9).status_code == 400
        assert ask(keyed, "requests", logit_bias={"99999999": 1}).status_code == 400
    assert ask(keyed, "requests").headers["x-ratelimit-remaining-requests"] == "2"


def test_usage_is_each_key_s_own_and_all_for_an_admin(keyed: Live) -> None:
    told = [ask(keyed, name, budget=0.2).json() for name in ("free", "free", "one")]
    own = usage(keyed, "free")
    assert len(own) == 1
    expected = {
        "start": "2026-11-29T00:00:00Z",
        "key": "free",
        "model": "scripted",
        "requests": 2,
        "prompt_tokens": sum(reply["usage"]["prompt_tokens"] for reply in told[:2]),
        "completion_tokens": sum(reply["usage"]["completion_tokens"] for reply in told[:2]),
        "reasoning_tokens": sum(reply["budget"]["reasoning_tokens"] for reply in told[:2]),
        "answer_tokens": sum(reply["budget"]["answer_tokens"] for reply in told[:2]),
        "saved_tokens": sum(reply["budget"]["saved_tokens_estimate"] for reply in told[:2]),
    }
    assert own[0] == pytest.approx(expected)
    assert {row["key"] for row in usage(keyed, "boss")} == {"free", "one"}
    assert {row["key"] for row in usage(keyed, "boss", key="one")} == {"one"}
    by_hour = usage(keyed, "free", by="hour", start="2026-11-29")
    assert [row["start"] for row in by_hour] == ["2026-11-29T12:00:00Z"]
    query = {"start": "2026-11-29", "end": "2026-11-30T00:00:00+00:00", "format": "csv"}
    table = keyed.http.get("/v1/usage", params=query, headers=bearer("sk-boss"))
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["key"], row["requests"]) for row in rows] == [("free", "2"), ("one", "1")]
    counted = keyed.metric_sum("extracot_key_tokens_total", key="free", kind="reasoning")
    assert counted == expected["reasoning_tokens"]
    kinds = ("reasoning", "answer", "overhead")
    named = {"key": "free", "name": "extracot_key_tokens_total"}
    generated = sum(keyed.metric_sum(**named, kind=kind) for kind in kinds)
    assert generated == expected["completion_tokens"]
    assert keyed.metric_sum("extracot_usage_store_up") == 1


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ({"key": "boss"}, 403, "key"),
        ({"by": "week"}, 400, "by"),
        ({"strat": "2026-11-01"}, 400, "strat"),
        ({"format": "xml"}, 400, "format"),
        ({"start": "yesterday"}, 400, "start"),
        ({"end": "-5"}, 400, "end"),
        ({"end": "9999999999999999"}, 400, "end"),
        ({"start": "2026-11-30", "end": "2026-11-29"}, 400, "start"),
        ({"start": "2020-01-01", "end": "2026-01-01"}, 400, "start"),
        ({"by": "hour", "start": "2026-01-01", "end": "2026-06-01"}, 400, "start"),
    ],
)
def test_wrong_queries(keyed: Live, query: dict[str, str], status: int, param: str) -> None:
    refused = keyed.http.get("/v1/usage", params=query, headers=bearer("sk-free"))
    assert refused.status_code == status
    assert refused.json()["error"]["param"] == param


def test_usage_outlives_the_server(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", entry("a", quotas=[{"requests": 2, "per": "month"}]))
    store = str(tmp_path / "usage.sqlite")
    codes = []
    for _ in range(3):
        with serve(keys=path, usage_store=store) as live:
            live.app.state.extracot.meter.clock = lambda: NOON
            codes.append(ask(live, "a").status_code)
    assert codes == [200, 200, 429]


@pytest.mark.parametrize("rule", ["serve", "refuse"])
def test_a_lost_store_serves_or_refuses_as_it_was_set(tmp_path: Path, rule: str) -> None:
    path = write(
        tmp_path / "keys.yaml",
        entry("hard", quotas=[{"requests": 100, "per": "day"}]),
        entry("soft", quotas=[{"tokens": 1, "per": "day", "when_over": {"budget": 0.2}}]),
        entry("free"),
        entry("boss", admin=True),
    )
    store = str(tmp_path / "usage.sqlite")
    with serve(keys=path, usage_store=store, usage_store_lost=rule) as live:
        ledger = live.app.state.extracot.meter.ledger
        found, answers = ledger._store, ledger._store._run
        assert ask(live, "hard").status_code == 200

        def gone(*_: object) -> None:
            raise StoreError("usage store: gone")

        found._run = gone
        codes = [ask(live, name).status_code for name in ("hard", "soft", "free")]
        assert codes == ([200, 200, 200] if rule == "serve" else [503, 503, 200])
        asked = live.http.get("/v1/usage", headers=bearer("sk-boss"))
        assert asked.status_code == 503 and "retry-after" in asked.headers
        live.wait_for(lambda: live.metric_sum("extracot_usage_store_up") == 0)
        live.wait_for(lambda: live.metric_sum("extracot_usage_unwritten_requests") >= 1)
        found._run = answers
        live.wait_for(lambda: live.metric_sum("extracot_usage_unwritten_requests") == 0)
        rows = live.http.get("/v1/usage", headers=bearer("sk-boss")).json()["data"]
        counted = {row["key"]: row["requests"] for row in rows}
        served = {"hard": 2, "soft": 1, "free": 1} if rule == "serve" else {"hard": 1, "free": 1}
        assert counted == served, "each once"


def test_a_client_that_leaves_is_counted_by_what_it_took(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yaml", entry("a", quotas=[{"tokens": 100_000, "per": "day"}]))
    with serve(ScriptedBehaviour(), keys=path) as live:
        body = {"messages": user(), "stream": True, "max_tokens": 3000, "ignore_eos": True}
        url, headers = "/v1/chat/completions", bearer("sk-a")
        with live.http.stream("POST", url, json=body, headers=headers) as stream:
            next(stream.iter_bytes())
        live.wait_for(lambda: live.metric_sum("extracot_aborts_total") == 1)
        left = int(ask(live, "a", max_tokens=1).headers["x-ratelimit-remaining-tokens"])
        assert left > 100_000 - 3000, "not the whole claim"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quotas": [{"per": "day"}]}, "quotas[0]: a quota has tokens or requests, one of them"),
        ({"quotas": [{"tokens": 1, "requests": 1, "per": "day"}]}, "tokens or requests"),
        ({"quotas": [{"tokens": 0, "per": "day"}]}, "quotas[0].tokens: "),
        ({"quotas": [{"tokens": 1, "per": "week"}]}, "quotas[0].per: "),
        ({"quotas": [{"tokens": 1, "per": "day", "limit": 2}]}, "quotas[0]: an unknown field"),
        ({"quotas": [{"tokens": 1, "per": "day", "when_over": {"budget": 2}}]}, "when_over.budget"),
        ({"quotas": [{"tokens": 1, "per": "day", "when_over": {}}]}, "when_over.budget"),
        ({"group": "nobody"}, "group: there are these: none"),
        ({"admin": "yes"}, "admin: "),
        ({"quota": []}, "did you mean quotas?"),
    ],
)
def test_wrong_quotas_in_a_file(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    path = write(tmp_path / "keys.yaml", entry("a", **fields))
    with pytest.raises(KeysError) as failed:
        KeyStore(path)
    assert words in str(failed.value) and "\n" not in str(failed.value)


def test_a_broken_quota_on_reload_keeps_the_old(keyed: Live) -> None:
    state = keyed.app.state.extracot
    path = state.settings.keys
    kept = path.read_text()
    write(path, entry("requests", quotas=[{"requests": -1, "per": "day"}]))
    with pytest.raises(KeysError):
        state.reload_keys()
    assert ask(keyed, "requests").headers["x-ratelimit-limit-requests"] == "3"
    path.write_text(kept.replace("requests: 3", "requests: 9"))
    assert state.reload_keys() == "changed requests"
    assert state.reload_keys() == "nothing of what they may do has changed"
    assert ask(keyed, "requests").headers["x-ratelimit-limit-requests"] == "9"


@pytest.mark.parametrize(
    "value", ["mysql://host/db", "redis://", "postgresql://host:99999/db", "redis:///0"]
)
def test_a_wrong_store_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(SettingsError) as failed:
        load_settings(["--usage-store", value])
    assert "setting usage_store: must be a" in str(failed.value)
    assert "got" not in str(failed.value), "it may hold a password"


def test_a_password_is_no_flag_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "redis://:hunter2@127.0.0.1:1/0"
    for flags in (["--usage-store", secret], [f"--usage-store={secret}"]):
        with pytest.raises(SettingsError) as failed:
            load_settings(flags)
        assert "hunter2" not in str(failed.value) and "EXTRACOT_USAGE_STORE" in str(failed.value)
    monkeypatch.setenv("EXTRACOT_USAGE_STORE", secret)
    assert "hunter2" not in repr(load_settings([]))
    with pytest.raises(SettingsError) as unreachable, serve(usage_store=secret):
        pass
    assert "hunter2" not in str(unreachable.value) and "127.0.0.1:1" in str(unreachable.value)


def test_the_default_is_a_file_where_there_is_something_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "extracot" / "usage-8123.sqlite"
    for port, lasting in ((8123, False), (0, True)):
        opened(port, lasting=lasting)
        assert not file.exists()
    opened(8123, lasting=True)
    assert file.exists() and not caplog.text
    (tmp_path / "taken").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "taken"))
    opened(8123, lasting=True)
    assert "usage is kept in memory and lost at a restart" in caplog.text


def opened(port: int, *, lasting: bool) -> None:
    """Open the default store, and close it."""
    ledger = open_ledger(Settings(engine="scripted", port=port), lasting=lasting)
    assert ledger is not None
    asyncio.run(ledger.close())


def test_off_keeps_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "keys.yaml", entry("a", quotas=[{"requests": 1, "per": "day"}]))
    with serve(usage_store="off", keys=path) as live:
        assert "the quotas in the keys file are not enforced" in caplog.text
        live.http.headers.update(bearer("sk-a"))
        assert live.post().status_code == 200
        assert live.post().status_code == 200, "not enforced"
        refused = live.http.get("/v1/usage")
        assert refused.status_code == 400 and "`usage_store` is off" in refused.text
    assert Settings(usage_store=False).usage_store.get_secret_value() == "off", "YAML's off"  # type: ignore[arg-type]
