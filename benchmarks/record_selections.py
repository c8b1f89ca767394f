"""Writes what the installed package's shipped compressor keeps of traces, for `compressor_gate`.

    PYTHONPATH=… python record_selections.py traces.jsonl out.jsonl

Runs with older versions of the package too (commit 47571e6 and later), which is what it is for. A
line for each trace and ratio: id, ratio, kept spans, realised ratio.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

RATIOS = [0.2, 0.3, 0.5]
# Where they are, newest first.
_SEGMENT = ("extracot_training.compression.segment", "extracot_training.segment")
_COMPRESS = ("extracot_training.stages.compress.stage", "extracot_training.compressor.compress")


def _there(names: tuple[str, ...]) -> Any:
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    return importlib.import_module(names[-1])


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    segment, spans_of = _there(_SEGMENT).segment, _there(_SEGMENT).spans_of
    compressor = _there(_COMPRESS).Compressor.load(tokenizer="bundled:smollm2")
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
