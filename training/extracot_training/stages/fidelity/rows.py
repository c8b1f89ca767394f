"""The row of a fidelity measurement, and the names of what is compared."""

from __future__ import annotations

from extracot_training.pipeline.records import SampleRecord

OURS, LINGUA, RANDOM, HEAD_TAIL = "ours", "lingua", "random", "head_tail"
# No baseline but a part of ours taken away: atoms and the final answer stay, the question goes.
BLIND = "blind"
FULL, EMPTY = "full", "empty"
SYSTEMS = (OURS, LINGUA, BLIND, RANDOM, HEAD_TAIL)
NAMES = {
    OURS: "ours",
    LINGUA: "LLMLingua-2-style",
    BLIND: "ours without the question",
    RANDOM: "random atoms",
    HEAD_TAIL: "head and tail",
    FULL: "full trace",
    EMPTY: "empty trace",
}


class FidelityRow(SampleRecord):
    """One shortened trace, judged. ``plain`` and ``redacted``: the reader's answer was right, from
    the text as it is and with the answer hidden. ``log_likelihood``: of the answer, redacted.
    ``allowance``: how far ``realised`` may be from ``target``."""

    system: str
    target: float
    realised: float
    allowance: float
    plain: bool = False
    redacted: bool = False
    log_likelihood: float = 0.0
    formula_recall: float
    broken: int

    @property
    def key(self) -> str:
        return f"{self.problem_id}/{self.sample}:{self.system}@{self.target:g}"
