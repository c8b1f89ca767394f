"""Prompts as the families' own chat templates give them, id for id, or a reason why not."""

from __future__ import annotations

import hashlib
import re

import pytest

from extracot import PromptError
from tests.extracot import golden
from tests.extracot.real_templates import STORED, TEMPLATES, RealTemplate

# The template leaves calls out, and a conversation without them is another one: we refuse it.
WITHOUT_CALLS = frozenset(
    {
        *("cohere2", "deepseek_r1_distill", "idefics3", "lfm2", "llama3", "phi3", "phi3_5"),
        *("qwen2_5_vl", "smolvlm"),
        *("HuggingFaceTB-SmolLM3-3B", "ibm-granite-granite-3.3-2B-Instruct"),
        *("LFM2-8B-A1B", "LFM2.5-Instruct", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B"),
        *("llama-cpp-rwkv-world", "microsoft-Phi-3.5-mini-instruct"),
    }
)
# Conversations that we render otherwise, and why.
OTHERWISE = {
    ("mistralai-Mistral-Nemo-Instruct-2407", "a chain of calls"): (
        "the template leaves the system message out unless the last message is the user's"
    ),
}
# Templates that transformers cannot render, whatever the conversation.
NEVER_RENDERED = {
    "CohereForAI-c4ai-command-r-plus-tool_use": "takes tools in a form of its own only",
    "fireworks-ai-llama-3-firefunction-v2": "needs a variable that transformers does not give it",
}
WITH_CALLS = ("a call", "a text and a call", "a chain of calls", "after a chain")


@pytest.fixture(params=TEMPLATES)
def template(request: pytest.FixtureRequest) -> RealTemplate:
    """Each of them."""
    found: RealTemplate = TEMPLATES[request.param]
    return found


def expected(template: RealTemplate, own: str, opens: bool) -> str:
    """The template's own prompt with our stated addition: a cap begins within an open block."""
    tags = template.renderer.tags
    if not opens or own.rstrip().endswith(tags.start):
        return own
    start, end = re.escape(tags.start), re.escape(tags.end)
    return re.sub(rf"(?:{start}\s*)?{end}\s*\Z", "", own) + f"{tags.start}\n"


def test_the_ids_are_those_of_the_family_s_own_template(template: RealTemplate) -> None:
    compared = 0
    for name, (conversation, tools) in golden.CONVERSATIONS.items():
        for mode in golden.modes(template):
            try:
                own = golden.own_text(template, conversation, tools, mode.variables)
            except Exception:  # the template itself refuses it: there is nothing to compare
                continue
            where = f"{template.name}, {name}, {mode.name}"
            if name in WITH_CALLS and template.name in WITHOUT_CALLS:
                with pytest.raises(PromptError, match="has no tool calls"):
                    render(template, name, mode)
                continue
            if (template.name, name) in OTHERWISE:
                assert render(template, name, mode)
                continue
            text = expected(template, own, mode.opens)
            ids = template.tokenizer.encode(text, add_special_tokens=False)
            ours = render(template, name, mode)
            assert (template.tokenizer.decode(ours), where) == (text, where)
            assert ours == list(ids), where
            compared += 1
    assert compared >= 4 or template.name in NEVER_RENDERED


def render(template: RealTemplate, name: str, mode: golden.Mode) -> list[int]:
    """Our ids."""
    conversation, tools = golden.CONVERSATIONS[name]
    rendered = template.renderer.render(
        golden.messages(conversation), mode.control, tools=tools, switches=mode.switches
    )
    return list(rendered.token_ids)


def test_the_stored_templates_are_those_that_the_table_beside_them_names() -> None:
    table = (STORED / "README.md").read_text()
    for path in sorted(STORED.glob("*.jinja")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"| `{path.name}` |" in table and digest in table
    assert table.count(".jinja` |") == len(list(STORED.glob("*.jinja")))
