"""The server's search for loops, on reasoning traces: none of them is one."""

from __future__ import annotations

import json
from pathlib import Path

from extracot_server.engine.scripted.tokenizer import ScriptedTokenizer
from extracot_server.generation.loops import loop_period
from extracot_training.synthetic.make import Generator
from extracot_training.synthetic.reasoning.make import ReasoningGenerator

MARKED = Path(__file__).parents[2] / "benchmarks" / "marked"
SPAN = 128
"""A quarter of the default, and bytes for tokens: both find more."""


def traces() -> list[str]:
    """Generated ones, long and short, and those that people wrote in the styles of real models."""
    found = [problem.trace for problem in ReasoningGenerator(seed=5).make(60)]
    found += [problem.trace for problem in Generator(seed=5, threads=3).make(30)]
    for path in (MARKED / "heldout1.jsonl", MARKED / "heldout2.jsonl"):
        rows = path.read_text(encoding="utf-8").splitlines()
        found += [json.loads(row)["thinking"] for row in rows]
    return found


def test_no_trace_is_a_loop() -> None:
    encode = ScriptedTokenizer().encode
    longest = 0
    for trace in traces():
        ids = encode(trace)
        longest = max(longest, len(ids))
        for end in range(SPAN, len(ids), 8):
            assert loop_period(ids, SPAN, end) is None, trace[:200]
    assert longest > 2000
