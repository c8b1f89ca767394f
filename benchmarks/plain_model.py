"""A one-layer model of random weights that writes plain text: whole words, and nothing else.

One event per engine step is then what any server has to send: no token is half a character, which
would be held back, and none is a tag. Costs per step are those of any model of its shape. Knows no
server.
"""

from __future__ import annotations

import json
from pathlib import Path

_ALWAYS = 8.0
_NEVER = -60.0


def build_plain_model(target: Path) -> Path:
    """Write the model into the new folder ``target`` and return it."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    from tests.fixtures.tiny_model import build_tiny_model

    build_tiny_model(target, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(target)
    weights = load_file(target / "model.safetensors")
    embeddings = weights["model.embed_tokens.weight"]
    head = embeddings.clone()
    # One dimension that is the same in every state, which the head reads as never for the rest.
    embeddings[:, 0] = _ALWAYS
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight[0] = 0.0
    plain = [is_plain(tokenizer.decode([i])) for i in range(len(embeddings))]
    head[:, 0] = torch.tensor([0.0 if yes else _NEVER for yes in plain])
    weights["lm_head.weight"] = head
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    config = target / "config.json"
    changed = json.loads(config.read_text()) | {"tie_word_embeddings": False}
    config.write_text(json.dumps(changed, indent=2) + "\n")
    return target


def is_plain(text: str) -> bool:
    """Whether a token is a stretch of letters, with or without a space before it."""
    return text.strip(" ").isalpha() and text.isascii()
