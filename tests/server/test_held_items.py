"""``item_reference``: items of earlier replies by their ids, apart for each key, within bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extracot_server.api.responses.held_items import HeldItems
from tests.server.live import QUESTION, Live, serve
from tests.server.test_responses import TOOL
from tests.server.test_tools import ASK

ALICE = {"authorization": "Bearer sk-alice"}
BOB = {"authorization": "Bearer sk-bob"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    entries = [{"name": name, "key": f"sk-{name}"} for name in ("alice", "bob")]
    keys.write_text(yaml.safe_dump({"keys": entries}))
    with serve(keys=keys, tool_parser="hermes") as found:
        yield found


def ask(live: Live, items: Any, key: dict[str, str] = ALICE, **fields: Any) -> dict[str, Any]:
    reply = live.http.post("/v1/responses", json={"input": items, **fields}, headers=key)
    assert reply.status_code == 200, reply.text
    if not fields.get("stream"):
        found: dict[str, Any] = reply.json()
        return found
    last: dict[str, Any] = json.loads(reply.text.strip().rpartition("data: ")[2])
    found = last["response"]
    return found


def refused(
    live: Live, items: Any, key: dict[str, str] = ALICE, status: int = 400, **fields: Any
) -> dict[str, Any]:
    before = len(live.engine.requests)
    reply = live.http.post("/v1/responses", json={"input": items, **fields}, headers=key)
    assert reply.status_code == status, reply.text
    assert len(live.engine.requests) == before
    error: dict[str, Any] = reply.json()["error"]
    return error


def reference(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "item_reference", "id": item["id"]}


def user(text: str = QUESTION) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("store", [None, True])
@pytest.mark.parametrize("reasoning", [{}, {"summary": "auto"}])
def test_a_reference_is_the_item_itself(
    live: Live, stream: bool, store: bool | None, reasoning: dict[str, Any]
) -> None:
    """With a call, its answer, and the text after it: the prompt is the same to the token."""
    fields: dict[str, Any] = {
        "stream": stream,
        "tools": [TOOL],
        "store": store,
        "reasoning": reasoning,
    }
    first = ask(live, ASK, **fields)
    assert first["store"] is True
    call = first["output"][-1]
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    second = ask(live, [*ASK, *map(reference, first["output"]), answer], **fields)
    whole = [*ASK, *first["output"], answer, *second["output"], user("And now?")]
    short = [
        reference(item) if item.get("id") and item.get("type") != "function_call_output" else item
        for item in whole
    ]
    assert sum(item.get("type") == "item_reference" for item in short) == 4
    ask(live, short, **fields)
    by_reference = live.engine.requests[-1].token_ids
    ask(live, whole, **fields)
    assert live.engine.requests[-1].token_ids == by_reference


def test_the_type_of_a_reference_may_be_left_out(live: Live) -> None:
    message = ask(live, QUESTION)["output"][-1]
    for bare in ({"id": message["id"]}, {"id": message["id"], "type": None}):
        ask(live, [user(), bare, user("And now?")])
    text = live.engine.tokenizer.decode(live.engine.requests[-1].token_ids)
    assert message["content"][0]["text"] in text


def test_what_is_not_held_is_refused_by_name(live: Live) -> None:
    unknown = {"type": "item_reference", "id": "msg_of_another_process"}
    error = refused(live, [user(), unknown, user()])
    assert (error["param"], error["code"]) == ("input[1].id", "item_not_found")
    assert "`store: false`" in error["message"] and "msg_of_another_process" in error["message"]


def test_another_key_s_items_are_unknown(live: Live) -> None:
    item = reference(ask(live, QUESTION)["output"][-1])
    error = refused(live, [user(), item, user()], BOB)
    assert error["code"] == "item_not_found"
    ask(live, [user(), item, user()])


def test_with_store_false_nothing_is_held(live: Live) -> None:
    reply = ask(live, QUESTION, store=False)
    assert reply["store"] is False
    error = refused(live, [user(), reference(reply["output"][-1]), user()])
    assert error["code"] == "item_not_found"


def test_ids_are_new_though_a_request_s_id_is_not(live: Live) -> None:
    headers = {**ALICE, "x-request-id": "trace-1"}
    ids = [item["id"] for _ in range(3) for item in ask(live, QUESTION, headers)["output"]]
    assert len(set(ids)) == len(ids) == 6
    assert not any("trace-1" in item_id for item_id in ids)


def test_an_item_is_named_once(live: Live) -> None:
    item = reference(ask(live, QUESTION)["output"][-1])
    assert refused(live, [user(), item, item, user()])["param"] == "input[2].id"


@pytest.mark.parametrize("wrong", [None, "", 7, ["x"]])
def test_wrong_ids(live: Live, wrong: Any) -> None:
    error = refused(live, [user(), {"type": "item_reference", "id": wrong}, user()])
    assert error["param"] == "input[1].id"


def test_items_count_towards_the_size_of_a_body() -> None:
    with serve(max_body_bytes=1500) as live:
        items: list[Any] = [user()]
        for _ in range(20):
            items += [reference(item) for item in ask(live, QUESTION, {})["output"]]
        assert len(json.dumps(items[:6])) < 1000
        error = refused(live, [*items[:15], user()], {}, status=413)
    assert error["code"] == "request_too_large"


def test_switched_off(tmp_path: Path) -> None:
    with serve(held_items_bytes=0) as live:
        reply = ask(live, QUESTION, {}, store=True)
        assert reply["store"] is False
        error = refused(live, [user(), reference(reply["output"][-1]), user()], {})
    assert error["code"] == "item_not_found"


# The store alone ------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def item(name: str, size: int = 0) -> dict[str, Any]:
    return {"id": name, "text": "x" * size}


def test_items_are_forgotten_an_hour_after_their_last_use() -> None:
    clock = Clock()
    held = HeldItems(10**6, 3600, clock)
    held.hold("a", item("1"))
    held.hold("a", item("2"))
    clock.now += 3000
    assert json.loads(held.find("a", "1") or b"null") == item("1")
    clock.now += 600
    assert held.find("a", "2") is None
    clock.now += 2999
    assert held.find("a", "1") is not None
    clock.now += 3600
    assert held.find("a", "1") is None
    assert held.size == 0


def test_what_was_not_used_for_longest_makes_room() -> None:
    held = HeldItems(6000, 3600, Clock())
    for name in "123":
        held.hold("a", item(name, 1000))
    assert held.find("a", "1") is not None
    held.hold("a", item("4", 1000))
    assert [name for name in "1234" if held.find("a", name)] == ["1", "3", "4"]


def test_nobody_pushes_out_another_s_items() -> None:
    held = HeldItems(10_000, 3600, Clock())
    held.hold("quiet", item("mine", 1000))
    for number in range(100):
        held.hold("loud", item(str(number), 1000))
        assert held.size <= 10_000
    assert held.find("quiet", "mine") is not None
    assert held.find("loud", "99") is not None


def test_many_small_items_and_one_too_large_stay_within_the_bound() -> None:
    held = HeldItems(10_000, 3600, Clock())
    for number in range(1000):
        held.hold(f"key {number % 7}", item(str(number)))
        assert 0 < held.size <= 10_000
    held.hold("other", item("large", 20_000))
    assert held.find("other", "large") is None
    assert held.size <= 10_000


def test_an_item_held_again_counts_once() -> None:
    held = HeldItems(10_000, 3600, Clock())
    held.hold("a", item("1", 1000))
    once = held.size
    held.hold("a", item("1", 1000))
    assert held.size == once


def test_a_later_change_of_an_item_is_not_what_was_held() -> None:
    held = HeldItems(10_000, 3600, Clock())
    mine = item("1")
    held.hold("a", mine)
    mine["text"] = "changed"
    assert json.loads(held.find("a", "1") or b"null") == item("1")
