"""Training and server render the same ids: a mixture's rows against the server's own loading."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from transformers import AutoTokenizer

from extracot.card import BudgetCard
from extracot.control import Control, level_token
from extracot.prompt import Message
from extracot_server.config.settings import Settings
from extracot_server.engine.base import Engine, EngineInfo
from extracot_server.model_registry.loading import serve_model
from extracot_training.config.publish import PublishConfig
from extracot_training.pipeline.records import read_rows
from extracot_training.policy.loading import load_policy_model
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.publish.stage import run as publish
from tests.training.tiny_policy import make_all, question


def test_rows_begin_with_what_the_server_sends_to_the_engine(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"system_prompt": "Count well.", "instruction": "Think."}
    mix = make_all(tmp_path, prompt=settings)
    prompt = PromptSettings.load(mix)
    model, tokenizer, _ = load_policy_model(str(tmp_path / "base"), prompt, seed=0)
    trained = tmp_path / "trained"
    model.save_pretrained(trained)
    tokenizer.save_pretrained(trained)
    prompt.save(trained)
    folder = publish(PublishConfig(model=trained, out=tmp_path / "published")).folder

    facts = {"max_model_len": 512, "vocab_size": len(tokenizer), "eos_token_ids": frozenset({0})}
    info = EngineInfo("vllm", "0", str(folder), "cpu", **facts)
    engine = SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(folder), info=info)
    served = serve_model(Settings(model=str(folder)), cast(Engine, engine))
    assert isinstance(served.card, BudgetCard)
    renderer = served.runtime.renderer
    kinds = set()
    for row in read_rows(mix, MixedRow):
        control = Control.native()
        if row.kind == "policy":
            control = Control.policy()
        elif row.level is not None:
            control = Control.level(level_token(row.level))
        number = int(row.problem_id.removeprefix("p"))
        rendered = renderer.render([Message("user", question(number))], control)
        if row.kind == "policy":
            rendered = renderer.after_choice(rendered, level_token(row.level or 0))
        ids = (*row.prompt_ids, *row.reply_ids)
        assert ids[: len(rendered.token_ids)] == rendered.token_ids
        kinds.add((row.kind, row.level))
    assert len(kinds) >= 10, "five levels, native, and policy rows of several levels"
