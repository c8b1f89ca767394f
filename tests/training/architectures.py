"""Tiny models of many architectures, with random weights, for the tokenizer of another model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from extracot_training.generation.rollout.base import PromptMaker, RolloutRequest
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings

WIDTH = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
USUAL = {**WIDTH, "intermediate_size": 96, "num_key_value_heads": 1, "max_position_embeddings": 512}
WIDE = {**USUAL, "head_dim": 32}
ALIKE = {**WIDTH, "intermediate_size": 96, "max_position_embeddings": 512}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}

# Architecture: the class of its settings, and what makes it tiny.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("BloomConfig", {"hidden_size": 64, "n_layer": 2, "n_head": 2}),
    "falcon": ("FalconConfig", {**WIDTH, "multi_query": True}),
    "gemma2": ("Gemma2Config", {**WIDE, "query_pre_attn_scalar": 32}),
    "gemma3_text": ("Gemma3TextConfig", {**WIDE, "query_pre_attn_scalar": 32}),
    "gpt2": ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 512}),
    "gpt_neox": ("GPTNeoXConfig", ALIKE),
    "gpt_oss": ("GptOssConfig", {**WIDE, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite": ("GraniteConfig", USUAL),
    "llama": ("LlamaConfig", WIDE),
    "mistral": ("MistralConfig", WIDE),
    "mixtral": ("MixtralConfig", {**WIDE, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmo2": ("Olmo2Config", USUAL),
    "olmoe": ("OlmoeConfig", {**USUAL, **EXPERTS}),
    "opt": ("OPTConfig", {**WIDTH, "ffn_dim": 96, "word_embed_proj_dim": 64,
                          "max_position_embeddings": 512}),
    "phi": ("PhiConfig", ALIKE),
    "phi3": ("Phi3Config", USUAL),
    "qwen2": ("Qwen2Config", USUAL),
    "qwen3": ("Qwen3Config", WIDE),
    "qwen3_moe": ("Qwen3MoeConfig", {**WIDE, **EXPERTS, "moe_intermediate_size": 64}),
    "smollm3": ("SmolLM3Config", USUAL),
}  # fmt: skip
# Those that vLLM was seen to serve; 0.32 has no model of its own for GPT-NeoX, and fails with it.
SERVED = (
    "bloom", "falcon", "gemma2", "gemma3_text", "gpt2", "granite", "llama", "mistral", "olmo2",
    "opt", "phi", "phi3", "qwen2", "qwen3", "smollm3",
)  # fmt: skip
LONGEST = 8
# Those whose router has a loss, which trainers switch on.
ROUTED = ("gpt_oss", "mixtral", "olmoe", "qwen3_moe")


def make(name: str, tokenizer: Path, target: Path) -> Path:
    """A model of this architecture with random weights, and the tokenizer of another folder."""
    kind, settings = ARCHITECTURES[name]
    known = AutoTokenizer.from_pretrained(tokenizer)
    config = getattr(transformers, kind)(
        vocab_size=len(known),
        bos_token_id=None,
        eos_token_id=known.eos_token_id,
        pad_token_id=known.pad_token_id,
        **settings,
    )
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(target)
    for path in tokenizer.glob("*token*"):
        shutil.copy(path, target)
    shutil.copy(tokenizer / "chat_template.jinja", target)
    return target


def asked(folder: Path) -> list[RolloutRequest]:
    """For replies at level 0.2 and 1.0, of prompts of unlike length."""
    prompt = PromptSettings.load(folder)
    tokenizer, _ = load_policy_tokenizer(str(folder), prompt)
    maker = PromptMaker(tokenizer, prompt)
    return [
        RolloutRequest(f"{n}@{level}", question, maker.level(question, level), level, seed=n)
        for n, question in enumerate(("Ana has 2 pens.", "How many pens does Ana have? 3 pens."))
        for level in (0.2, 1.0)
    ]
