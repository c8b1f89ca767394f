"""Writes what the installed package's shipped compressor keeps of traces, for `compressor_gate`.

    PYTHONPATH=… python record_selections.py traces.jsonl out.jsonl

Runs with older versions of the package too (commit 47571e6 and later), which is what it is for: it
imports only what they have. A line for each trace and ratio: id, ratio, kept spans, realised ratio.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from extracot_training.compression.segment import segment, spans_of
from extracot_training.stages.compress.stage import Compressor

RATIOS = [0.2, 0.3, 0.5]


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    compressor = Compressor.load(tokenizer="bundled:smollm2")
    lines = []
    for text in source.read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        atoms = segment(row["thinking"])
        found = compressor.compress(row["question"], row["thinking"], RATIOS, answer=row["answer"])
        lines += [
            json.dumps(
                {"id": row["id"], "ratio": one.target, "realised": one.realised,
                 "kept": spans_of(atoms, one.kept)}
            )
            for one in found
        ]  # fmt: skip
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
