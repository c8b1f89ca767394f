"""A canary in the whole server: another card, another model, other upstreams; compared, moved,
reloaded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from extracot_server.app import create_app
from extracot_server.budget.canary import Side, draw
from extracot_server.config.settings import Settings, SettingsError
from extracot_server.engine.remote.engine import RemoteEngine
from extracot_server.engine.scripted.engine import ScriptedBehaviour, ScriptedEngine, scripted_card
from extracot_server.model_registry.loading import read_file
from extracot_server.model_registry.routing import canary_lines, reload_upstreams
from tests.server.engine.remote_fakes import FakeUpstream, load_scripted, upstreams
from tests.server.key_files import OTHER, SECRET, bearer, write
from tests.server.live import Live, serve, user

NAMES = {Side.STABLE: "main", Side.CANARY: "next"}


def problems(side: Side, count: int, share: float = 0.5, key: str = "") -> list[str]:
    """First messages of conversations on one side."""
    texts = (f"Problem {number}: how many apples?" for number in range(10_000))
    found = (text for text in texts if draw(share, "canary", key, text)[0] is side)
    return [next(found) for _ in range(count)]


def canary_file(folder: Path, **canary: Any) -> Path:
    path = folder / "upstreams.yaml"
    path.write_text(json.dumps({"canary": {"share": 0.5, **canary}}))
    return path


def other_card(folder: Path, **changes: Any) -> Path:
    card = scripted_card()
    scripted_card().model_copy(update={"instruction": "Be quick.", **changes}).save(folder)
    assert card.instruction != "Be quick."
    return folder / "budget_card.json"


@contextlib.contextmanager
def two_models(folder: Path, *engines: ScriptedEngine, **canary: Any) -> Iterator[Live]:
    """``main``, half of whose conversations go to ``next``."""
    path = canary_file(folder, **({"model": "next"} | canary))
    both = [
        {"name": "main", "engine": "scripted", "upstreams": str(path)},
        {"name": "next", "engine": "scripted", "card": "none", "reasoning_tokens_ceiling": 20},
    ]
    used = engines or (ScriptedEngine(), ScriptedEngine())
    with serve(on=list(used), models=both, usage_store="memory") as live:  # type: ignore[arg-type]
        yield live


def arm(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.headers["x-extracot-arm"]


def standing(live: Live, model: str = "main", **more: Any) -> dict[str, Any]:
    response = live.http.get("/v1/canary", params={"model": model}, **more)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_chain_of_requests_stays_on_one_side_and_its_reply_has_the_name_asked_for(
    tmp_path: Path,
) -> None:
    with two_models(tmp_path) as live:
        for side in Side:
            (text,) = problems(side, 1)
            turns = user(text)
            for turn in range(3):
                response = live.post(model="main", messages=turns, max_tokens=60)
                assert arm(response) == side.value
                reply = response.json()
                assert reply["model"] == "main"
                assert (
                    live.metric_sum("extracot_requests_total", model=NAMES[side], outcome="ok")
                    + live.metric_sum(
                        "extracot_requests_total", model=NAMES[side], outcome="length"
                    )
                    == turn + 1
                )
                answer = reply["choices"][0]["message"]["content"]
                turns = [*turns, {"role": "assistant", "content": answer}, *user(f"And {turn}?")]
        direct = live.post(model="next", messages=user(problems(Side.STABLE, 1)[0]), max_tokens=9)
        assert "x-extracot-arm" not in direct.headers, "who asks for a model gets it"


def test_another_card_is_tried_on_the_same_engine_and_has_no_part_in_the_holdout(
    tmp_path: Path,
) -> None:
    path = canary_file(tmp_path, card=str(other_card(tmp_path)))
    with serve(upstreams=path, holdout_fraction=1.0, usage_store="memory") as live:
        for side in Side:
            for text in problems(side, 2):
                response = live.post(messages=user(text), budget=0.2)
                assert arm(response) == side.value
                prompt = live.engine.tokenizer.decode(live.engine.requests[-1].token_ids)
                assert ("Be quick." in prompt) is (side is Side.CANARY)
                held_out = response.json()["budget"]["arm"]
                assert held_out == (None if side is Side.CANARY else "holdout")
        found = standing(live, "scripted")
        nothing = {"requests": 0, "replies": 0, "moved": 0}
        assert found["sides"]["stable"] == {**nothing, "held_out": 2}
        assert found["sides"]["canary"]["replies"] == 2


def test_both_sides_are_compared_with_intervals_and_counted(tmp_path: Path) -> None:
    with two_models(tmp_path) as live:
        for side in Side:
            for text in problems(side, 14):
                live.chat(model="main", messages=user(text), max_tokens=300)
        found = standing(live)
        assert found["model"] == "main"
        assert found["shared"] is False, "its store is this process's memory"
        target = {"name": "canary", "share": 0.5, "stick": "conversation", "target": "model next"}
        assert found["canary"] == target
        for side in Side:
            assert found["sides"][side.value]["replies"] == 14
        cut = found["shares"]["cap_hit"]
        assert cut["stable"] < 0.5 and cut["canary"] == 1.0
        assert 0.2 < cut["difference"]["low"] < 1 - cut["stable"] < cut["difference"]["high"]
        reasoning = found["means"]["reasoning_tokens"]
        told = live.metric_sum("extracot_canary_reasoning_tokens_total", model="main", arm="canary")
        assert reasoning["canary"] == pytest.approx(told / 14)
        difference = reasoning["canary"] - reasoning["stable"]
        assert reasoning["difference"]["mean"] == pytest.approx(difference)
        assert reasoning["difference"]["low"] <= difference <= reasoning["difference"]["high"]
        assert found["shares"]["error"]["difference"]["mean"] == 0
        counted = {"model": "main", "arm": "canary"}
        assert live.metric_sum("extracot_canary_requests_total", **counted, outcome="ok") == 14
        assert live.metric_sum("extracot_canary_signals_total", **counted, signal="cap_hit") == 14
        assert live.metric_sum("extracot_canary_share", model="main") == 0.5


def test_what_the_canary_cannot_serve_the_other_side_does(tmp_path: Path) -> None:
    small = ScriptedEngine(ScriptedBehaviour(max_model_len=64))
    with two_models(tmp_path, ScriptedEngine(), small) as live:
        first, second = problems(Side.CANARY, 2)
        long = [*user(first), {"role": "assistant", "content": "yes " * 100}, *user("Go on.")]
        response = live.post(model="main", messages=long, max_tokens=40)
        assert arm(response) == "stable"
        live.app.state.extracot.engine_of("next").up = False
        assert arm(live.post(model="main", messages=user(second), max_tokens=40)) == "stable"
        found = standing(live)["sides"]
        assert found["canary"] == {"requests": 0, "replies": 0, "moved": 2, "held_out": 0}
        assert found["stable"]["requests"] == 0
        moved = {"model": "main", "arm": "canary"}
        assert live.metric_sum("extracot_canary_moved_total", **moved, reason="refused") == 1
        assert live.metric_sum("extracot_canary_moved_total", **moved, reason="down") == 1
        refused = live.post(model="main", messages=user(first), max_tokens=40, temperature=9)
        assert refused.status_code == 400, "what both refuse is refused"


def test_other_apis_have_it_too_and_streams_say_the_side(tmp_path: Path) -> None:
    with two_models(tmp_path) as live:
        for side in Side:
            (text,) = problems(side, 1)
            body = {"model": "main", "input": text, "max_output_tokens": 60}
            reply = live.http.post("/v1/responses", json=body)
            assert arm(reply) == side.value and reply.json()["model"] == "main"
            anthropic = {"model": "main", "max_tokens": 60, "messages": user(text)}
            assert arm(live.http.post("/v1/messages", json=anthropic)) == side.value
            streamed = live.post(model="main@0.4", messages=user(text), max_tokens=60, stream=True)
            assert arm(streamed) == side.value
            assert '"model":"main@0.4"' in streamed.text.replace(" ", "")


def test_a_key_may_stick_to_a_side_and_only_an_admin_sees_the_comparison(tmp_path: Path) -> None:
    names = {
        side: next(n for n in map(str, range(99)) if draw(0.5, "canary", n)[0] is side)
        for side in Side
    }
    keys = write(
        tmp_path / "k.yaml",
        {"name": names[Side.CANARY], "key": SECRET, "models": ["main"]},
        {"name": names[Side.STABLE], "key": OTHER, "admin": True},
    )
    path = canary_file(tmp_path, model="next", stick="key")
    both = [
        {"name": "main", "engine": "scripted", "upstreams": str(path)},
        {"name": "next", "engine": "scripted", "card": "none"},
    ]
    engines = [ScriptedEngine(), ScriptedEngine()]
    with serve(on=engines, models=both, keys=keys, usage_store="memory") as live:  # type: ignore[arg-type]
        for number in range(3):
            for secret, side in ((SECRET, "canary"), (OTHER, "stable")):
                body = {"model": "main", "messages": user(f"Problem {number}"), "max_tokens": 9}
                url = "/v1/chat/completions"
                assert arm(live.http.post(url, json=body, headers=bearer(secret))) == side
        refused = live.http.get("/v1/canary?model=main", headers=bearer(SECRET))
        assert refused.status_code == 403 and "admin: true" in refused.text
        found = standing(live, headers=bearer(OTHER))
        assert found["sides"]["canary"]["requests"] == 3
        none = standing(live, "next", headers=bearer(OTHER))
        assert none["canary"] is None and none["means"]["seconds"]["canary"] is None


def test_a_canary_is_changed_and_ended_without_a_restart(tmp_path: Path) -> None:
    with two_models(tmp_path) as live:
        state = live.app.state.extracot
        (text,) = problems(Side.CANARY, 1)
        assert arm(live.post(model="main", messages=user(text), max_tokens=9)) == "canary"
        before = state.services["main"].canary
        assert live.run(reload_upstreams(state)) == ["main: upstreams: nothing in it has changed"]
        assert state.services["main"].canary is before, "and it goes on with what it has found"
        for broken, words in (
            ({"model": "nowhere"}, "canary.model must be another served model; there are: next"),
            ({"share": 7, "model": "next"}, "canary: share: must be a number in (0, 1]"),
            ({"model": "next", "stick": "key"}, "canary.stick is key, and no API key is required"),
            ({"card": str(tmp_path / "no.json")}, "canary.card"),
        ):
            canary_file(tmp_path, **broken)
            (line,) = live.run(reload_upstreams(state))
            assert words in line and "the current upstreams and canary stay in force" in line
            assert live.metric_sum("extracot_upstreams_last_reload_successful") == 0
            assert state.services["main"].canary is before
        canary_file(tmp_path, share=0.001, model="next")
        (line,) = live.run(reload_upstreams(state))
        assert line.startswith("main: upstreams: canary: 0.10% to model next, by conversation")
        assert live.metric_sum("extracot_upstreams_last_reload_successful") == 1
        assert arm(live.post(model="main", messages=user(text), max_tokens=9)) == "stable"
        assert standing(live)["sides"]["canary"]["requests"] == 0, "another share, another one"
        (tmp_path / "upstreams.yaml").write_text("# canary: {share: 0.001, model: next}\n")
        assert live.run(reload_upstreams(state)) == ["main: upstreams: no canary"]
        ended = live.post(model="main", messages=user(text), max_tokens=9)
        assert "x-extracot-arm" not in ended.headers
        assert live.metric_sum("extracot_canary_share", model="main") == 0


def test_the_comparison_outlives_a_restart_and_is_another_for_another_card(tmp_path: Path) -> None:
    card = other_card(tmp_path)
    path, store = canary_file(tmp_path, card=str(card)), str(tmp_path / "usage.sqlite")
    for requests in (1, 2):
        with serve(upstreams=path, usage_store=store) as live:
            live.chat(messages=user(problems(Side.CANARY, 1)[0]), max_tokens=9)
            found = standing(live, "scripted")
            assert found["shared"] and found["sides"]["canary"]["requests"] == requests
    card.write_text(card.read_text() + "\n")
    with serve(upstreams=path, usage_store=store) as live:
        assert standing(live, "scripted")["sides"]["canary"]["requests"] == 0


def test_a_card_that_is_replaced_is_told_and_compared_anew(tmp_path: Path) -> None:
    card = other_card(tmp_path)
    path = canary_file(tmp_path, card=str(card))
    with serve(upstreams=path, usage_store="memory") as live:
        state = live.app.state.extracot
        live.chat(messages=user(problems(Side.CANARY, 1)[0]), max_tokens=9)
        other_card(tmp_path, instruction="Be quicker.")
        (line,) = live.run(reload_upstreams(state))
        assert line == "upstreams: what the canary tries has changed: it is compared anew"
        assert standing(live, "scripted")["sides"]["canary"]["requests"] == 0


def test_one_that_is_added_later_is_compared_in_a_store_that_others_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    card = other_card(tmp_path)
    path = tmp_path / "upstreams.yaml"
    (text,) = problems(Side.CANARY, 1)
    path.write_text("canary: null\n")
    # As two workers are: without keys or a holdout, with the default store of one port.
    with serve(upstreams=path, port=8765) as one, serve(upstreams=path, port=8765) as two:
        canary_file(tmp_path, card=str(card))
        for live in (one, two):
            (line,) = live.run(reload_upstreams(live.app.state.extracot))
            assert line.endswith("by conversation"), "and nothing is to be said of the store"
            live.chat(messages=user(text), max_tokens=9)

        def counted(live: Live) -> bool:
            found = standing(live, "scripted")
            return found["shared"] is True and found["sides"]["canary"]["requests"] == 2

        for live in (one, two):
            live.wait_for(partial(counted, live))
    canary_file(tmp_path, share=0.4, card=str(card))
    with serve(upstreams=path, usage_store="memory") as live:
        alone = "compared in this process alone and until it ends"
        assert alone in canary_lines(live.app.state.extracot)[0]
        canary_file(tmp_path, card=str(card))
        assert alone in live.run(reload_upstreams(live.app.state.extracot))[0]
        (line,) = live.run(reload_upstreams(live.app.state.extracot))
        assert line == "upstreams: nothing in it has changed"


def test_a_canary_that_cannot_be_ends_the_start_in_one_line(tmp_path: Path) -> None:
    bad = other_card(tmp_path, tokenizer_hash="sha256:" + "0" * 64)
    with (
        pytest.raises(SettingsError, match=r"canary\.card"),
        serve(upstreams=canary_file(tmp_path, card=str(bad)), usage_store="memory"),
    ):
        pass


@pytest.mark.anyio
async def test_new_upstreams_are_tried_and_left_where_they_fail(tmp_path: Path) -> None:
    a, new = FakeUpstream(), FakeUpstream()
    scripted_card().save(tmp_path)
    path = tmp_path / "upstreams.yaml"
    async with upstreams(a, new):
        entries = [{"url": a.url, "name": "a"}, {"url": new.url, "name": "new"}]
        canary = {"share": 0.5, "upstreams": ["new"]}
        path.write_text(json.dumps({"upstreams": entries, "canary": canary}))
        own = {"card": str(tmp_path), "served_model_name": "m", "usage_store": "memory"}
        settings = Settings(engine="remote", upstreams=path, **own)
        file = read_file(settings)
        assert file.canary is not None
        engine = RemoteEngine(
            file.upstreams, canary=file.canary.upstreams, load_model=load_scripted
        )
        app = create_app(settings, engine)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:

                async def ask(text: str) -> str:
                    body = {"messages": user(text), "max_tokens": 200, "budget": "auto"}
                    return arm(await client.post("/v1/chat/completions", json=body))

                for text in problems(Side.STABLE, 3):
                    assert await ask(text) == "stable"
                assert new.served == 0 and a.served >= 6, "all that a reply asks stays there"
                before = a.served
                for text in problems(Side.CANARY, 2):
                    assert await ask(text) == "canary"
                assert a.served == before and new.served >= 4
                new.faults.health = 503
                await engine._examine(engine._upstreams[1])
                (text,) = problems(Side.CANARY, 1)
                await ask(text)
                found = (await client.get("/v1/canary")).json()["sides"]
                assert (found["canary"]["replies"], found["canary"]["moved"]) == (2, 1)
                assert found["stable"]["replies"] == 3
                # Ended, and its server taken over by the others.
                new.faults.health = 200
                path.write_text(json.dumps({"upstreams": entries}))
                state = app.state.extracot
                assert await reload_upstreams(state) == ["upstreams: no canary"]
                await engine._examine(engine._upstreams[1])
                before = new.served
                for text in problems(Side.STABLE, 2):
                    body = {"messages": user(text), "max_tokens": 60}
                    await client.post("/v1/chat/completions", json=body)
                assert new.served > before
