"""Writes the table of chat templates in docs/models.md from the templates themselves.

``python scripts/template_table.py`` renders those that are at hand (``tests/data/templates`` says
which) and keeps the rows of the others; a test fails while a row is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from extracot import ThinkTags  # noqa: E402
from tests.extracot.real_templates import TEMPLATES, RealTemplate  # noqa: E402

DOCUMENT = ROOT / "docs" / "models.md"
START, END = "<!-- templates -->", "<!-- end of templates -->"
HEAD = (
    "| model | think tags | on, off | efforts, budget | earlier reasoning | tools "
    "| template, vocabulary |\n"
    "|---|---|---|---|---|---|---|"
)
# Models that reason, by the name of their template.
MODELS = {
    "Apertus": "Apertus-8B-Instruct",
    "Apriel 1.5": "unsloth-Apriel-1.5",
    "Bielik 3": "Bielik-11B-v3.0-Instruct",
    "Command R7B": "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "DeepSeek-R1 distills": "deepseek_r1_distill",
    "DeepSeek-V3.1": "deepseek-ai-DeepSeek-V3.1",
    "Gemma 4": "gemma4_v5",
    "GLM-4.5": "glm4moe",
    "GLM-4.6": "GLM-4.6",
    "GLM-4.7 Flash": "GLM-4.7-Flash",
    "gpt-oss": "gptoss",
    "Granite 3.3": "ibm-granite-granite-3.3-2B-Instruct",
    "Hy3": "tencent-Hy3",
    "Kimi K3": "Kimi-K3",
    "Laguna S 2.1": "poolside-Laguna-S-2.1",
    "Laguna XS.2": "poolside-Laguna-XS.2",
    "LFM2.5": "lfm2_2_5_v2",
    "Ling 3 Flash": "inclusionai-ling-3.0-flash",
    "MiniCPM5": "openbmb-MiniCPM5-1B",
    "MiniMax-M1": "MiniMax-M1",
    "MiniMax-M2": "MiniMax-M2",
    "MiniMax-M3": "MiniMax-M3",
    "Ministral 3 Reasoning": "mistralai-Ministral-3-14B-Reasoning-2512",
    "Muse Glimmer": "muse_glimmer",
    "Nemotron 3 Nano": "nemotron_3_nano",
    "Nemotron 3 Super": "nemotron_3_super",
    "Nemotron 3 Ultra": "nemotron_3_ultra",
    "Nemotron 3.5 Lightning": "nemotron_3_5_lightning",
    "Nemotron Nano v2": "NVIDIA-Nemotron-Nano-v2",
    "North Mini Code": "Cohere2MoE",
    "Qwen3": "qwen3",
    "Qwen3.5": "qwen3_5_think",
    "Qwen3.5, small": "qwen3_5_nothink",
    "Qwen3.6": "qwen3_6",
    "Qwen3.8": "qwen3_8",
    "Reka Edge": "Reka-Edge",
    "Seed-OSS": "ByteDance-Seed-OSS",
    "SmolLM3": "HuggingFaceTB-SmolLM3-3B",
    "Solar Open": "upstage-Solar-Open-100B",
    "Spark X2.5": "Spark2.5",
    "Step 3.5 Flash": "StepFun3.5-Flash",
}
_KEPT = {"never": "dropped", "tool_chain": "kept in a chain of calls", "always": "kept"}
_SOURCES = {
    "trl": "trl 1.16.0",
    "stored": "llama-cpp-python 0.3.36",
    "archive": "llama-cpp-python 0.3.36",
}


def row(model: str, template: RealTemplate) -> str:
    """What is known of a template."""
    traits, tags = template.renderer.traits, template.tags
    on = _given(traits.on) if traits.on else ""
    off = _given(traits.off) if traits.off is not None else ""
    takes = [f"`{traits.effort}`: {', '.join(traits.efforts)}"] if traits.effort else []
    takes += [f"`{traits.budget}`"] if traits.budget else []
    kept = _KEPT[traits.keeps_reasoning] + "".join(f", `{name}`" for name in traits.keep)
    tools = "yes" if template.renderer.takes_tools else "no"
    if tools == "yes" and not template.renderer.takes_calls:
        tools = "definitions, no calls"
    vocabulary = "its own" if template.vocabulary else "a stand-in"
    cells = (
        model,
        f"`{tags.start}` `{tags.end}`".replace("|", "\\|") if _writes(template) else "none",
        ", ".join(filter(None, (on, off))) or "none",
        "; ".join(takes) or "none",
        kept,
        tools,
        f"{_SOURCES[template.place]}, {vocabulary}",
    )
    return f"| {' | '.join(cells)} |"


def _writes(template: RealTemplate) -> bool:
    """Whether the template itself has the tags that are assumed of it."""
    return template.tags != ThinkTags() or template.tags.end in template.text


def _given(values: Mapping[str, object]) -> str:
    pairs = (f"{name}={json.dumps(value)}" for name, value in values.items())
    return ", ".join(f"`{pair}`" for pair in pairs)


def table(document: str) -> str:
    """The rows, those of templates that are not at hand as the document has them."""
    known = {
        line.split(" | ")[0].removeprefix("| "): line
        for line in document.partition(START)[2].partition(END)[0].splitlines()
    }
    rows = [
        row(model, TEMPLATES[name]) if name in TEMPLATES else known.get(model, "")
        for model, name in MODELS.items()
    ]
    return "\n".join([HEAD, *filter(None, rows)])


def with_table(document: str) -> str:
    """The document with the present table."""
    before, _, rest = document.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(document)}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
