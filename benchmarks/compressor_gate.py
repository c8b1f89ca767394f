"""The compressor's gate: what shortened traces keep of the steps that are marked in them.

    python -m benchmarks.compressor_gate --set dev traces.jsonl marks.jsonl [more marks]
        [--set heldout …] [--compressor FOLDER] [--recorded NAME=FILE] [--out report.md]

A set is a file of traces and the marks of one or several readers (of several, what all mark).
Prints a Markdown report: at each ratio of the policy tokenizer's tokens, needed steps kept whole,
revoked steps kept, contradictions, words of negation, condition or quantity lost within kept steps;
for our compressor, an oracle that knows the marks, and baselines. Intervals are bootstrapped over
traces. ``--recorded`` adds a system whose kept spans `benchmarks.record_selections` wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from statistics import mean

from extracot_training.compression.budget import Selection, TokenCounter, spend, words
from extracot_training.compression.scoring import CompressorScorer
from extracot_training.compression.segment import segment, spans_of
from extracot_training.compression.step_features import structure
from extracot_training.compression.step_scoring import GraphScorer, Item, ScoredSteps, StepScorer
from extracot_training.compression.structure import Outline, outline, spend_on_steps
from extracot_training.evaluation.marks import (
    Kept,
    MarkedTrace,
    Marks,
    Span,
    judge,
    needed_steps,
    read_marked,
)
from extracot_training.pipeline.markdown import table
from extracot_training.pipeline.statistics import Estimate, estimate, ratio_estimate
from extracot_training.policy.pretrained import load_tokenizer
from extracot_training.stages.compress.stage import Compressor, chosen_steps

RATIOS = (0.2, 0.3, 0.5)
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Case:
    """One marked trace, cut into steps, and the tokens of each; ``always`` are the atoms that stay
    whatever the budget."""

    trace: MarkedTrace
    marks: Marks
    plan: Outline
    costs: tuple[int, ...]
    always: tuple[int, ...]

    @property
    def item(self) -> Item:
        """As scorers take it."""
        return self.trace.question, self.trace.thinking, self.trace.answer


# Kept spans and realised ratio of a case at each ratio.
Result = list[tuple[list[Span], float]]
System = Callable[[Case], Result]


def cases(traces: Path, marks: Sequence[Path], counter: TokenCounter) -> list[Case]:
    """All traces that every reader has marked. Raises ``RowError``."""
    found = []
    for trace, marked in read_marked(traces, marks):
        plan = outline(trace.thinking, segment(trace.thinking))
        each = counter.per_atom(trace.thinking, plan.atoms)
        costs = tuple(sum(each[i] for i in own) for own in plan.members)
        always = structure(trace.question, plan, trace.answer).always
        found.append(Case(trace, marked, plan, costs, always))
    return found


def systems(counter: TokenCounter, folder: Path | None) -> dict[str, System]:
    """Everything that can be run here, by the name it has in the report."""
    ours = StepScorer.load(folder)
    shipped = CompressorScorer.load(None)
    graph = GraphScorer()
    atoms = Compressor(shipped, counter)
    lingua = Compressor(shipped, counter, units="words")

    @cache
    def read(item: Item) -> ScoredSteps:
        return ours.steps([item])[0]

    def chosen(case: Case, scored: ScoredSteps) -> Result:
        return _spans(case, chosen_steps(case.trace.thinking, scored, RATIOS, counter))

    def by_need(case: Case) -> Result:
        scored = read(case.item)
        plain = sorted(range(len(case.costs)), key=lambda i: (-scored.needed[i], i))
        return _by_order(case, plain, counter)

    def old(case: Case) -> Result:
        trace = case.trace
        return _spans(
            case, atoms.compress(trace.question, trace.thinking, RATIOS, answer=trace.answer)
        )

    def blind(case: Case) -> Result:
        pieces = words(case.trace.thinking)
        found = lingua.compress("", case.trace.thinking, RATIOS)
        return [(spans_of(pieces, one.kept), one.realised) for one in found]

    return {
        "oracle (gold marks)": lambda case: _by_order(case, _oracle(case), counter),
        "steps (ours)": lambda case: chosen(case, read(case.item)),
        "steps, by need alone": by_need,
        "steps, graph without a model": lambda case: chosen(case, graph.steps([case.item])[0]),
        "atoms (token classifier)": old,
        "LLMLingua-2-style: words, no question": blind,
        "random steps": lambda case: _by_order(case, _shuffled(case), counter),
        "head and tail": lambda case: _head_tail(case, counter),
    }


def recorded(file: Path) -> System:
    """A system whose selections were written elsewhere: JSON lines of id, ratio, kept, realised."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = {(row["id"], row["ratio"]): row for row in rows}

    def run(case: Case) -> Result:
        own = [found[(case.trace.id, ratio)] for ratio in RATIOS]
        return [([(a, b) for a, b in row["kept"]], row["realised"]) for row in own]

    return run


def report(name: str, rows: Sequence[Case], tried: dict[str, System]) -> list[str]:
    """One set's part of the report."""
    shares = [
        sum(case.costs[i] for i in needed_steps(case.marks, case.costs)) / max(1, sum(case.costs))
        for case in rows
    ]
    entries = mean(len(case.marks.needed) for case in rows)
    steps, tokens = mean(len(case.costs) for case in rows), mean(sum(c.costs) for c in rows)
    revoked = mean(len(case.marks.revoked) for case in rows)
    lines = [
        f"## {name}: {len(rows)} traces", "",
        f"{steps:.0f} steps and {tokens:.0f} tokens a trace; {entries:.1f} needed steps, which "
        f"take {mean(shares):.3f} of the tokens ({max(shares):.3f} at most); {revoked:.1f} "
        "revoked.", "",
    ]  # fmt: skip
    results = {system: [run(case) for case in rows] for system, run in tried.items()}
    for place, ratio in enumerate(RATIOS):
        judged = (
            _row(system, rows, [found[place] for found in every])
            for system, every in results.items()
        )
        lines += [f"At {ratio:g}:", "", *table(
            "system | needed kept whole | revoked kept | contradictions a trace | negations lost "
            "| realised", judged,
        ), ""]  # fmt: skip
    return lines


def _row(system: str, rows: Sequence[Case], found: Sequence[tuple[list[Span], float]]) -> str:
    kept: list[Kept] = [
        judge(case.trace, case.marks, case.plan, spans)
        for case, (spans, _) in zip(rows, found, strict=True)
    ]
    needed = _ratio([k.needed for k in kept], [k.entries for k in kept])
    revoked = _ratio([k.revoked for k in kept], [k.revocable for k in kept])
    against = estimate([k.contradictions for k in kept], resamples=RESAMPLES, seed=0)
    lost, held = sum(k.negations for k in kept), sum(k.protected for k in kept)
    realised = mean(share for _, share in found)
    return (
        f"{system} | {needed} | {revoked} | {against.mean:.2f} | {lost} of {held} | {realised:.3f}"
    )


def _ratio(parts: Sequence[int], wholes: Sequence[int]) -> Estimate | str:
    return ratio_estimate(parts, wholes, resamples=RESAMPLES, seed=0) or "none"


def _spans(case: Case, selections: Sequence[Selection]) -> Result:
    return [(spans_of(case.plan.atoms, one.kept), one.realised) for one in selections]


def _by_order(case: Case, order: Sequence[int], counter: TokenCounter) -> Result:
    flat = [0.0] * len(case.plan.atoms)
    found = spend_on_steps(
        case.trace.thinking, case.plan, order, flat, RATIOS, counter, always=case.always
    )
    return _spans(case, found)


def _oracle(case: Case) -> list[int]:
    need = needed_steps(case.marks, case.costs)
    gone = set(case.marks.revoked)
    rest = [i for i in range(len(case.costs)) if i not in need]
    return need + sorted(rest, key=lambda i: (i in gone, i))


def _shuffled(case: Case) -> list[int]:
    order = list(range(len(case.costs)))
    Random(case.trace.id).shuffle(order)
    return order


def _head_tail(case: Case, counter: TokenCounter) -> Result:
    pieces = words(case.trace.thinking)
    near = [-float(min(i, len(pieces) - 1 - i)) for i in range(len(pieces))]
    found = spend(case.trace.thinking, pieces, near, RATIOS, counter)
    return [(spans_of(pieces, one.kept), one.realised) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--set", nargs="+", action="append", required=True, metavar="X",
        help="name, file of traces, and the marks of one or more readers",
    )  # fmt: skip
    parser.add_argument("--compressor", type=Path, help="a trained one of steps [the shipped one]")
    parser.add_argument("--tokenizer", default="bundled:smollm2", help="the policy model's")
    parser.add_argument("--recorded", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument(
        "--systems", nargs="+", metavar="X", help="only those whose names begin so [all]"
    )
    parser.add_argument("--out", type=Path, help="write the report here, too")
    args = parser.parse_args()
    counter = TokenCounter(load_tokenizer(args.tokenizer))
    tried = systems(counter, args.compressor)
    for given in args.recorded:
        name, equals, file = given.partition("=")
        if not equals:
            parser.error(f"--recorded {given}: want NAME=FILE")
        tried[name] = recorded(Path(file))
    if args.systems:
        tried = {name: run for name, run in tried.items() if name.startswith(tuple(args.systems))}
    lines = ["# The compressor's gate", "", f"Tokens are those of `{args.tokenizer}`.", ""]
    for given in args.set:
        if len(given) < 3:
            parser.error(f"--set {' '.join(given)}: want NAME TRACES MARKS [MARKS …]")
        rows = cases(Path(given[1]), [Path(one) for one in given[2:]], counter)
        lines += report(given[0], rows, tried)
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
