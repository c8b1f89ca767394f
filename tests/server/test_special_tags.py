"""Think tags that are special tokens, or several of them: what splits a reply sees them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from extracot_server.engine.base import GenerationRequest
from extracot_server.generation.detokenize import detokenizer_factory
from tests.extracot import zoo
from tests.fixtures.saying_engine import SayingEngine
from tests.fixtures.template_tokenizer import template_tokenizer, trl_templates
from tests.server.live import Live, collect, serve

CHAT = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
COMMAND = CHAT.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if reasoning is defined and not reasoning %}<|START_THINKING|><|END_THINKING|>"
    "<|START_TEXT|>{% endif %}{% endif %}",
)
COMMAND_TOKENS = ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_TEXT|>", "<|END_TEXT|>")
THOUGHT, ANSWER = "First 12 * 3 is 36.", "It is 40."
GPT_OSS = trl_templates()["gptoss"]
START, END = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"

FORMS: dict[str, tuple[str, str, tuple[str, ...], str, str, str]] = {
    # template, model type, tokens, the reply, its end after a cut, the profile
    "magistral": (
        CHAT,
        "mistral3",
        ("[THINK]", "[/THINK]"),
        f"[THINK]{THOUGHT}[/THINK]{ANSWER}",
        ANSWER,
        "magistral",
    ),
    "command-a": (
        COMMAND,
        "cohere2_moe",
        COMMAND_TOKENS,
        f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_TEXT|>{ANSWER}<|END_TEXT|>",
        f"{ANSWER}<|END_TEXT|>",
        "command-a",
    ),
    "gpt-oss": (GPT_OSS, "gpt_oss", (), f"{START}{THOUGHT}{END}{FINAL}{ANSWER}", ANSWER, "gpt-oss"),
}


@contextmanager
def saying(form: str, reply: str | None = None) -> Iterator[Live]:
    """A server whose model gives the form's reply, and its end where the block has been closed."""
    template, model_type, tokens, whole, rest, _ = FORMS[form]
    tokenizer = template_tokenizer(template, more=tokens)
    wanted = whole if reply is None else reply

    def says(request: GenerationRequest) -> Sequence[int]:
        prompt = tokenizer.decode(list(request.token_ids), skip_special_tokens=False)
        last = prompt.rpartition("assistant")[2] if form != "gpt-oss" else prompt[-300:]
        opens, _, closes = wanted.partition(THOUGHT)
        if form == "gpt-oss" and prompt.endswith(FINAL):
            return engine.ids(rest)
        if form != "gpt-oss" and any(tag in last for tag in ("[/THINK]", "<|END_THINKING|>")):
            return engine.ids(rest)
        text = wanted.removeprefix(opens) if prompt.endswith(opens) and closes else wanted
        return engine.ids(text)

    engine = SayingEngine(tokenizer, says, model_type=model_type)
    with serve(on=engine, card="none") as live:
        yield live


@pytest.mark.parametrize("form", FORMS)
def test_reasoning_and_answer_are_told_apart(form: str) -> None:
    with saying(form) as live:
        assert live.http.get("/v1/budget").json()["profile"]["name"] == FORMS[form][5]
        for size in (1, 5, 1000):
            live.engine.size = size
            for fields in ({}, {"budget": 0.5}, {"budget": {"max_reasoning_tokens": 300}}):
                choice = live.chat(**fields)["choices"][0]
                assert choice["message"]["reasoning"] == THOUGHT
                assert choice["message"]["content"] == ANSWER
                assert choice["budget"]["closed_by"] == "model"
                assert choice["budget"]["reasoning_tokens"] == len(THOUGHT)
                streamed = collect(live.chunks(**fields))
                assert streamed["message"] == choice["message"]
                assert streamed["budget"] == choice["budget"]


@pytest.mark.parametrize("form", FORMS)
def test_a_cap_is_exact_and_closes_as_the_family_does(form: str) -> None:
    with saying(form) as live:
        runtime = live.app.state.extracot.services["said"].model.runtime
        closes, closing = runtime.tags.closes, f"\n\n{runtime.profile.closing}"
        choice = live.chat(budget={"max_reasoning_tokens": 7})["choices"][0]
        assert choice["message"]["reasoning"] == THOUGHT[:7].rstrip() + closing
        assert choice["message"]["content"] == ANSWER
        assert choice["budget"]["reasoning_tokens"] <= 7
        assert (choice["budget"]["cap_hit"], choice["budget"]["closed_by"]) == (True, "server")
        assert live.engine.prompt().endswith(closes)


@pytest.mark.parametrize("form", FORMS)
def test_none_writes_an_answer_alone(form: str) -> None:
    with saying(form) as live:
        choice = live.chat(budget="none")["choices"][0]
        assert choice["message"]["reasoning"] is None
        assert choice["message"]["content"] == ANSWER
        assert choice["budget"]["reasoning_tokens"] == 0


def test_a_channel_that_is_final_at_once_is_no_text() -> None:
    with saying("gpt-oss", f"{FINAL}{ANSWER}") as live:
        message = live.chat()["choices"][0]["message"]
        assert (message["reasoning"], message["content"]) == (None, ANSWER)
        assert collect(live.chunks())["message"]["content"] == ANSWER


def test_special_tokens_besides_the_tags_stay_unseen() -> None:
    with saying("magistral", f"[THINK]{THOUGHT}[/THINK]It <|turn|>is 40.") as live:
        assert live.chat()["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize("build", zoo.BUILDS)
def test_tags_change_no_other_token(build: str) -> None:
    """A word's own space is a token in some vocabularies, and decodes to nothing by itself."""
    tokenizer = zoo.tokenizer(build)
    ids = tokenizer.encode("a\n\n b  c <think> 12", add_special_tokens=False)

    def shown(*tags: str) -> str:
        step = detokenizer_factory(tokenizer, tags)([])
        return "".join(step(id_) for id_ in ids)

    assert shown(" <think>\n\n</think> ", "\n </think>\n") == shown()


class Slow:
    """A tokenizer without a fast backend, as those of mistral-common are."""

    def __init__(self, fast: Any) -> None:
        self.encode, self.decode = fast.encode, fast.decode


@pytest.mark.parametrize("slow", [False, True])
def test_a_decoder_shows_the_tags_it_is_told_of(slow: bool) -> None:
    fast = template_tokenizer(CHAT, more=("[THINK]", "[/THINK]", "[INST]"))
    tokenizer: Any = Slow(fast) if slow else fast
    text = "[THINK]a é[/THINK] [INST]b"
    ids = fast.encode(text, add_special_tokens=False)

    def shown(*tags: str, **how: bool) -> str:
        step = detokenizer_factory(tokenizer, tags, **how)([])
        return "".join(step(id_) for id_ in ids)

    assert shown() == "a é b"
    assert shown("[THINK]", "[/THINK]") == "[THINK]a é[/THINK] b"
    assert shown("so [/THINK]") == "a é[/THINK] b"  # in a tag of several tokens
    assert shown(show_special=True) == text
