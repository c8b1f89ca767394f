"""Which of vLLM's grammar backends takes more schemas that people write, and keeps to them.

    python -m benchmarks.grammars [--model FOLDER] [--schemas FILE] [--texts 40]

Each schema is asked of each backend by vLLM's own checks and compiled by its own classes, with the
model's tokenizer, as this server asks for it. Then texts are drawn token by token from what the
backend allows, without a model, and those that end are validated by the library `jsonschema`
(formats too). Prints a Markdown table of the schemas that a backend refuses or does not keep, the
counts, and the time to compile a schema and to make one mask of allowed tokens. No engine runs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jsonschema.validators import validator_for
from transformers import AutoTokenizer

from benchmarks.harness import about_this_machine, percentile, table
from extracot_server.engine.json_schema import simplified
from extracot_server.engine.vllm.grammars import complaint
from extracot_server.model_registry.resolving import SHIPPED

_SCHEMAS = Path(__file__).parents[1] / "tests" / "server" / "schemas.json"
_LONGEST = 400
_WIND_UP = 60
"""After so many tokens, those are drawn that may end something."""


@dataclass(slots=True)
class Found:
    """What one backend makes of one schema."""

    refused: str | None = None
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    compile_ms: float = 0.0
    mask_us: list[float] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """In a word, or with what is wrong."""
        if self.refused is not None:
            return f"refused: {self.refused:.110}"
        if self.wrong:
            return f"wrong {len(self.wrong)} of {self.ends['ended']}: {self.wrong[0]:.110}"
        return "kept"


class Words:
    """A tokenizer's tokens, and those worth drawing so that texts come to an end."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.size = len(tokenizer)
        self.end = int(tokenizer.eos_token_id)
        texts = [tokenizer.decode([index]) for index in range(self.size)]
        self.closing = np.array([bool(set(text) & set('"]}')) for text in texts])
        self.short = np.array([len(t) <= 2 and t.isascii() and t.isprintable() for t in texts])

    def draw(self, allowed: Any, step: int, rng: random.Random) -> int:
        """One of the allowed ids."""
        chance = rng.random()
        for wanted, use in (
            (self.closing, step > _WIND_UP or chance < 0.25),
            (self.short, chance < 0.7),
        ):
            few = allowed[wanted[allowed]]
            if use and len(few):
                return int(rng.choice(list(few)))
        return int(rng.choice(list(allowed)))


def text_of(grammar: Any, backend: Any, words: Words, rng: random.Random, found: Found) -> str:
    """A text that the grammar allows; how it ended and the times go into ``found``."""
    mask = backend.allocate_token_bitmask(1)
    ids: list[int] = []
    for step in range(_LONGEST):
        began = time.perf_counter()
        grammar.fill_bitmask(mask, 0)
        found.mask_us.append((time.perf_counter() - began) * 1e6)
        bits = np.unpackbits(mask[0].numpy().view(np.uint8), bitorder="little")[: words.size]
        allowed = np.flatnonzero(bits)
        if words.end in allowed and (len(allowed) == 1 or rng.random() < 0.5):
            found.ends["ended"] += 1
            return str(words.tokenizer.decode(ids))
        token = words.draw(allowed[allowed != words.end], step, rng)
        ids.append(token)
        if not grammar.accept_tokens("text", [token]):
            found.ends["stuck"] += 1
            return ""
    found.ends["too long"] += 1
    return ""


def measure(schema: Any, name: str, backend: Any, validate: Any, words: Words, texts: int) -> Found:
    """Ask a backend for a schema, and draw texts if it takes it."""
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams
    from vllm.v1.structured_output.backend_types import StructuredOutputOptions

    found = Found()
    asked = json.dumps(simplified(schema))
    try:
        validate(SamplingParams(structured_outputs=StructuredOutputsParams(json=asked)))
        late = complaint(json.loads(asked)) if name == "guidance" else None
    except (VLLMClientError, ValueError) as error:
        late = " ".join(str(error).split())
    if late is not None:
        found.refused = late
        return found
    began = time.perf_counter()
    backend.compile_grammar(StructuredOutputOptions.JSON, asked)
    found.compile_ms = (time.perf_counter() - began) * 1e3
    kind = validator_for(schema)
    validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
    for seed in range(texts):
        grammar = backend.compile_grammar(StructuredOutputOptions.JSON, asked)
        text = text_of(grammar, backend, words, random.Random(seed), found)
        if not text:
            continue
        try:
            error = next(validator.iter_errors(json.loads(text)), None)
        except ValueError as broken:
            found.wrong.append(f"no JSON ({broken})")
        else:
            if error is not None:
                found.wrong.append(error.message.replace("|", "\\|"))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHIPPED["small"])
    parser.add_argument("--schemas", type=Path, default=_SCHEMAS)
    parser.add_argument("--texts", type=int, default=40, help="texts for each schema and backend")
    arguments = parser.parse_args()
    words = Words(AutoTokenizer.from_pretrained(arguments.model))
    backends = _backends(words)
    schemas: dict[str, Any] = json.loads(arguments.schemas.read_text(encoding="utf-8"))
    rows: list[list[str]] = []
    results: dict[str, list[Found]] = {name: [] for name in backends}
    for title, schema in schemas.items():
        found = {
            name: measure(schema, name, *backend, words, arguments.texts)
            for name, backend in backends.items()
        }
        for name, one in found.items():
            results[name].append(one)
        if any(one.verdict != "kept" for one in found.values()):
            rows.append([title, *(one.verdict for one in found.values())])
    print(about_this_machine(), f"vocabulary of {words.size}", sep="\n")
    print(table(["schema", *backends], rows))
    print(table(_HEADS, [_counts(name, found) for name, found in results.items()]))


_HEADS = ["backend", "schemas", "refused", "wrong", "kept", "compile, ms", "mask, us"]
"""Times: the median and the 99th percentile."""


def _counts(name: str, found: list[Found]) -> list[str]:
    refused = sum(one.refused is not None for one in found)
    wrong = sum(bool(one.wrong) for one in found)
    compiled = [one.compile_ms for one in found if one.refused is None]
    masks = [us for one in found for us in one.mask_us]
    numbers = [len(found), refused, wrong, len(found) - refused - wrong]
    times = [f"{statistics.median(v):.1f}, {percentile(v, 0.99):.0f}" for v in (compiled, masks)]
    return [name, *map(str, numbers), *times]


def _backends(words: Words) -> dict[str, tuple[Any, Any]]:
    """vLLM's own, set as this server sets them, and their checks of a request."""
    from vllm.v1.structured_output.backend_guidance import (
        GuidanceBackend,
        validate_guidance_grammar,
    )
    from vllm.v1.structured_output.backend_xgrammar import (
        XgrammarBackend,
        validate_xgrammar_grammar,
    )

    grammar = SimpleNamespace(disable_any_whitespace=True, disable_additional_properties=False)
    config = SimpleNamespace(
        structured_outputs_config=grammar,
        model_config=None,
        speculative_config=None,
        num_speculative_tokens=0,
    )
    given = {"tokenizer": words.tokenizer, "vocab_size": words.size}
    return {
        "xgrammar": (XgrammarBackend(config, **given), validate_xgrammar_grammar),
        "guidance": (GuidanceBackend(config, **given), validate_guidance_grammar),
    }


if __name__ == "__main__":
    main()
