"""Think tags that are special tokens, on real vLLM: a tiny Mistral of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from extracot_server.engine.vllm.engine import VllmEngine
from tests.fixtures.tiny_model import build_tiny_model
from tests.server.engine.vllm_servers import ARGUMENTS
from tests.server.live import Live, collect, serve

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]


def as_magistral(folder: Path) -> Path:
    """The tiny model with the tags of Mistral's reasoning models, as special tokens."""
    tags = {"<think>": "[THINK]", "</think>": "[/THINK]"}
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    for token in data["added_tokens"]:
        if token["content"] in tags:
            token |= {"content": tags[token["content"]], "special": True}
    path.write_text(json.dumps(data))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    path.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = as_magistral(build_tiny_model(tmp_path_factory.mktemp("tags") / "model"))
    engine = VllmEngine(str(folder), engine_args=ARGUMENTS, shutdown_grace=1.0)
    with serve(on=engine, engine="vllm", model=str(folder)) as found:
        yield found


def test_the_family_is_found_by_configuration_and_tokens(live: Live) -> None:
    profile = live.http.get("/v1/budget").json()["profile"]
    assert profile["name"] == "magistral"
    assert profile["tags"] == {"start": "[THINK]", "end": "[/THINK]", "single_tokens": True}


def test_a_tag_that_the_model_writes_ends_its_reasoning(live: Live) -> None:
    (end,) = live.engine.tokenizer.encode("[/THINK]", add_special_tokens=False)
    fields = {"budget": 1.0, "logit_bias": {str(end): 60}, "max_tokens": 40, "temperature": 0}
    choice = live.chat(**fields)["choices"][0]
    report = choice["budget"]
    assert (report["closed_by"], report["reasoning_tokens"]) == ("model", 0)
    assert report["overhead_tokens"] > 1
    assert "THINK" not in (choice["message"]["content"] or "")
    assert collect(live.chunks(**fields))["budget"] == report


def test_a_cap_is_exact(live: Live) -> None:
    fields = {
        "budget": {"ratio": 1.0, "max_reasoning_tokens": 9},
        "max_tokens": 60,
        "min_tokens": 2,
    }
    choice = live.chat(**fields, seed=3, ignore_eos=True)["choices"][0]
    report = choice["budget"]
    assert report["cap_hit"] and 8 <= report["reasoning_tokens"] <= 9
    assert choice["message"]["reasoning"] and choice["message"]["content"]
    assert "THINK]" not in choice["message"]["reasoning"] + choice["message"]["content"]
