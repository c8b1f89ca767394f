"""LoRA adapters: which folders are refused and in which words, and adapters as models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from extracot.errors import CardError
from extracot_server.engine.base import EngineStartError
from extracot_server.engine.lora import adapter_arguments, read_adapters
from extracot_server.engine.scripted.engine import ScriptedEngine, scripted_card
from extracot_server.engine.vllm import engine as vllm
from tests.fixtures.tiny_adapter import RANK, build_tiny_adapter
from tests.server.live import serve


def refused(folder: Path) -> str:
    with pytest.raises(EngineStartError) as caught:
        read_adapters({"mine": str(folder)})
    text = str(caught.value)
    assert "\n" not in text and text.startswith("adapter mine: ")
    return text


def test_good_adapters_and_what_vllm_is_started_with(tmp_path: Path) -> None:
    folders = {
        "small": str(build_tiny_adapter(tmp_path / "small")),
        "large": str(build_tiny_adapter(tmp_path / "large", r=9, rank_pattern={"q_proj": 30})),
    }
    found = read_adapters(folders)
    assert [(a.number, a.rank) for a in found.values()] == [(1, RANK), (2, 30)]
    assert adapter_arguments(found) == {
        "enable_lora": True,
        "max_lora_rank": 32,
        "max_loras": 2,
        "max_cpu_loras": 2,
    }
    assert adapter_arguments({}) == {}
    many = {f"a{i}": folders["small"] for i in range(20)}
    values = adapter_arguments(read_adapters(many))
    assert (values["max_loras"], values["max_cpu_loras"]) == (8, 20)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"modules_to_save": ["embed_tokens"]}, ("modules_to_save", "merge it")),
        ({"trainable_token_indices": [1, 2]}, ("trainable_token_indices", "merge it")),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, ("rows of tokens", "merge it")),
        ({"use_dora": True}, ("DoRA", "merge it")),
        ({"peft_type": "PROMPT_TUNING"}, ("not of a LoRA adapter",)),
        ({"r": 4096}, ("ranks", "512", "4096")),
        ({"r": "many"}, ("ranks",)),
        ({"rank_pattern": {"q_proj": 9999}}, ("ranks",)),
    ],
)
def test_adapters_that_vllm_does_not_serve(
    tmp_path: Path, config: dict[str, Any], words: tuple[str, ...]
) -> None:
    text = refused(build_tiny_adapter(tmp_path / "adapter", **config))
    assert all(word in text for word in words), text


def test_an_adapter_of_another_model_is_told_by_its_width(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 128}))
    good = str(build_tiny_adapter(tmp_path / "good"))
    assert read_adapters({"good": good}, str(tmp_path))["good"].rank == RANK
    for width in (64, 192):
        other = str(build_tiny_adapter(tmp_path / f"w{width}", hidden=width))
        with pytest.raises(EngineStartError, match=rf"adapter other: .*width {width}.*128"):
            read_adapters({"other": other}, str(tmp_path))
        assert read_adapters({"other": other}, "a/hub-id"), "nothing is known of that model"


def test_folders_that_are_no_adapter(tmp_path: Path) -> None:
    assert "not a folder" in refused(tmp_path / "nowhere")
    folder = build_tiny_adapter(tmp_path / "adapter")
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    whole = {"base_model.model.lm_head.weight": np.zeros((2, 2), np.float32)}
    save_file(whole, weights)
    assert "whole weights (base_model.model.lm_head.weight)" in refused(folder)
    weights.write_bytes(b"no safetensors")
    assert "not a file of safetensors" in refused(folder)
    weights.unlink()
    assert "missing" in refused(folder)
    config.write_text("{")
    assert "not JSON" in refused(folder)
    config.write_text("[]")
    assert "not of a LoRA adapter" in refused(folder)
    config.unlink()
    assert "adapter_config.json: No such file" in refused(folder)


class Judge:
    """What vLLM does with adapters, without vLLM."""

    def __init__(self, verdict: bool | Exception) -> None:
        self.verdict = verdict
        self.asked: list[str] = []

    async def add_lora(self, adapter: Any) -> bool:
        self.asked.append(adapter.name)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (True, None),
        (False, "adapter mine cannot be loaded: vLLM refused it"),
        (RuntimeError("Call to add_lora failed\nsizes differ"), "cannot be loaded: sizes differ"),
        (ValueError(), "cannot be loaded: ValueError"),
    ],
)
async def test_what_vllm_says_of_an_adapter_ends_the_start_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verdict: bool | Exception,
    words: str | None,
) -> None:
    monkeypatch.setattr(vllm, "_lora_request", lambda adapter: adapter)
    engine = vllm.VllmEngine("m", engine_args={}, shutdown_grace=0)
    engine._known = read_adapters({"mine": str(build_tiny_adapter(tmp_path / "mine"))})
    engine._llm = judge = Judge(verdict)
    if words is None:
        await engine._load_adapters()
    else:
        with pytest.raises(EngineStartError) as caught:
            await engine._load_adapters()
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert judge.asked == ["mine"]


def test_adapters_are_models_each_with_the_card_in_its_folder(tmp_path: Path) -> None:
    carded, plain = tmp_path / "carded", tmp_path / "plain"
    for folder in (carded, plain):
        folder.mkdir()
    scripted_card().save(carded)
    folders = {"carded": str(carded), "plain": str(plain)}
    engine = ScriptedEngine(adapters=folders)
    with serve(on=engine, lora=folders, assumed_reasoning_tokens=50) as live:
        entries = live.http.get("/v1/models").json()["data"]
        modes = {e["id"]: e["budget"]["mode"] for e in entries if e["parent"] is None}
        assert modes == {"scripted": "token", "carded": "token", "plain": "cap"}
        for name, level in (("scripted", "0.2"), ("carded", "0.2"), ("plain", "cap")):
            report = live.chat(model=f"{name}@0.2")["budget"]
            assert report["level"] == level
            assert engine.requests[-1].adapter == (None if name == "scripted" else name)
            assert live.metric_sum("extracot_requests_total", model=name) == 1
            assert live.metric_sum("extracot_engine_up", model=name) == 1
        live.loop.call_soon_threadsafe(engine.die)
        live.wait_for(lambda: live.metric_sum("extracot_engine_up") == 0)


def test_an_adapters_bad_card_names_the_adapter(tmp_path: Path) -> None:
    (tmp_path / "budget_card.json").write_text(json.dumps({"version": 99}))
    folders = {"mine": str(tmp_path)}
    failing = serve(on=ScriptedEngine(adapters=folders), lora=folders)
    with pytest.raises(CardError, match=r"^adapter mine: "), failing:
        pass
