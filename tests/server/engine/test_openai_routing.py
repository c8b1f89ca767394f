"""Engine `openai` with an upstreams file and canaries: weights, keys, drains, sides, comparison."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extracot_server.budget.canary import Side
from extracot_server.config.settings import Settings, SettingsError
from extracot_server.engine.scripted.engine import ScriptedEngine
from extracot_server.model_registry.loading import build_engine
from extracot_server.model_registry.routing import reload_upstreams
from tests.server.engine.chat_fakes import FakeChat, chatting
from tests.server.live import Live, collect, read_chunks, serve, user
from tests.server.test_canary import arm, other_card, problems, standing

ANSWERS = {Side.STABLE: "old", Side.CANARY: "new"}
APIS = {
    "/v1/chat/completions": lambda text: {"messages": user(text), "budget": CAP},
    "/v1/messages": lambda text: {
        "messages": user(text),
        "max_tokens": 2000,
        "budget": CAP,
        "model": "thinker",
    },
    "/v1/responses": lambda text: {"input": text, "budget": CAP, "model": "thinker"},
}
CAP = {"max_reasoning_tokens": 10}


def fakes(*names: str, **more: Any) -> list[FakeChat]:
    """Servers that say who they are, and count with each chunk."""
    return [FakeChat(answer=[name], counts="each", **more) for name in names]


@contextlib.contextmanager
def routed(
    folder: Path, servers: list[FakeChat], *entries: dict[str, Any], **file: Any
) -> Iterator[tuple[Live, Path]]:
    """Our server on an upstreams file of these, and the file. ``settings`` of the file are ours."""
    settings = file.pop("settings", {})
    path = folder / "upstreams.yaml"
    with chatting(*servers) as urls:
        listed = [{"url": url, **entry} for url, entry in zip(urls, entries, strict=True)]
        path.write_text(json.dumps({"upstreams": listed, **file}))
        own = {"engine": "openai", "upstreams": path, "usage_store": "memory", **settings}
        chosen = Settings(**own)
        with serve(on=build_engine(chosen, chosen), **own) as live:
            yield live, path


def said(reply: dict[str, Any]) -> str:
    text: str = reply["choices"][0]["message"]["content"]
    return text


def test_weights_keys_and_drains_stand_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "key-b").write_text("sk-b\n")
    a, b = fakes("a", "b", reasoning=[])
    b.api_key = "sk-b"
    entries = {"name": "a", "weight": 3}, {"name": "b", "api_key_file": "key-b"}
    with routed(tmp_path, [a, b], *entries) as (live, path):
        told = [said(live.chat()) for _ in range(8)]
        assert (told.count("a"), told.count("b")) == (6, 2)
        assert b.keys == {"Bearer sk-b"} and a.keys == {None}
        listed = json.loads(path.read_text())["upstreams"]
        path.write_text(json.dumps({"upstreams": [{**listed[0], "drain": True}, listed[1]]}))
        (line,) = live.run(reload_upstreams(live.app.state.extracot))
        assert line == "upstreams: changed a (drain False to True)"
        assert {said(live.chat()) for _ in range(3)} == {"b"}
        path.write_text(json.dumps({"upstreams": [{**listed[1], "url": "http://xn--b"}]}))
        (line,) = live.run(reload_upstreams(live.app.state.extracot))
        assert "upstreams[0]: url: 'http://xn--b' has a host that is no name" in line
        assert said(live.chat()) == "b", "what was stays in force"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", APIS)
def test_both_requests_of_a_reply_have_one_side(tmp_path: Path, path: str, stream: bool) -> None:
    old, new = fakes("old", "new", hold_after=12)
    entries = {"name": "old"}, {"name": "new"}
    canary = {"share": 0.5, "upstreams": ["new"]}
    with routed(tmp_path, [old, new], *entries, canary=canary) as (live, _):
        for side, fake in zip(Side, (old, new), strict=True):
            (text,) = problems(side, 1)
            body = {**APIS[path](text), "stream": stream}
            response = live.http.post(path, json=body)
            assert arm(response) == side.value
            assert ANSWERS[side] in response.text
            assert len(fake.bodies) == 2, "cut off, and gone on with at the same server"
        found = standing(live, "thinker")
        for side in Side:
            assert found["sides"][side.value]["replies"] == 1
            assert found["means"]["reasoning_tokens"][side.value] == 10
            assert found["shares"]["cap_hit"][side.value] == 1


def test_a_stream_that_moves_says_the_side_it_ends_on(tmp_path: Path) -> None:
    old, new = fakes("old", "new", reasoning=[])
    new.refusal = (500, {"error": {"message": "no memory"}})
    canary = {"share": 0.5, "upstreams": ["new"]}
    (text,) = problems(Side.CANARY, 1)
    with routed(tmp_path, [old, new], {"name": "old"}, {"name": "new"}, canary=canary) as (live, _):
        streamed = live.post(messages=user(text), stream=True)
        assert arm(streamed) == "stable" and "old" in streamed.text
        assert standing(live, "thinker")["sides"]["canary"]["moved"] == 1


def test_a_stream_that_begins_before_it_has_a_side_says_none(tmp_path: Path) -> None:
    old, new = fakes("old", "new", reasoning=[])
    new.refusal = (500, {"error": {"message": "no memory"}})
    new.gate = gate = threading.Event()
    entries = {"name": "old"}, {"name": "new"}
    more = {"canary": {"share": 0.5, "upstreams": ["new"]}, "settings": {"heartbeat_seconds": 0.05}}
    (text,) = problems(Side.CANARY, 1)
    with routed(tmp_path, [old, new], *entries, **more) as (live, _):
        body = {"messages": user(text), "stream": True}
        with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            assert next(lines) == ": keep-alive"
            assert "x-extracot-arm" not in response.headers, "nobody has taken it yet"
            gate.set()
            said = "\n".join(line for line in lines if not line.startswith(":")).strip("\n")
        assert collect(read_chunks(said + "\n\n"))["message"]["content"] == "old"
        assert standing(live, "thinker")["sides"]["canary"]["moved"] == 1


def test_another_model_may_be_the_canary_and_another_card_may_not(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.yaml"
    (fake,) = fakes("old", reasoning=[])
    with chatting(fake) as (url,):

        def write(**canary: Any) -> None:
            file = {"upstreams": [{"url": url}], "canary": {"share": 0.5, **canary}}
            path.write_text(json.dumps(file))

        write(model="next")
        both = [
            {"name": "main", "engine": "openai", "upstreams": str(path)},
            {"name": "next", "engine": "scripted", "card": "none"},
        ]
        chosen = Settings(models=both)
        engines = [build_engine(chosen, chosen.served_models()[0]), ScriptedEngine()]
        with serve(on=engines, models=both, usage_store="memory") as live:  # type: ignore[arg-type]
            for side in Side:
                (text,) = problems(side, 1)
                response = live.post(model="main", messages=user(text), max_tokens=60)
                assert arm(response) == side.value
                assert (said(response.json()) == "old") is (side is Side.STABLE)
            write(card=str(other_card(tmp_path)))
            (line,) = live.run(reload_upstreams(live.app.state.extracot))
            assert "canary.card: engine openai has none" in line and "stay in force" in line
        own = {"engine": "openai", "upstreams": path, "usage_store": "memory"}
        alone = Settings(**own)  # type: ignore[arg-type]
        with (
            pytest.raises(SettingsError, match=r"canary\.card"),
            serve(on=build_engine(alone, alone), **own),  # type: ignore[arg-type]
        ):
            pass
