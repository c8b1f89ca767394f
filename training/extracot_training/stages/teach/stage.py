"""Stage ``teach``: reasoning traces for problems, sampled from the policy model or the data's own.

Every attempt, kept or not, is one line of ``attempts.jsonl`` as soon as it is there; a run that was
cut asks only for what is missing. At the end ``rows.jsonl`` holds the kept traces in the order of
the problems, so that it does not depend on which reply came first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from extracot.think_tags import has_tags
from extracot_training.compression.budget import token_counter
from extracot_training.compression.step_labels import META_KEY, StepLabels
from extracot_training.config.sampling import VllmBackend
from extracot_training.config.teach import TeachConfig
from extracot_training.errors import StageError
from extracot_training.generation.sampling.backends import open_backend
from extracot_training.generation.sampling.base import Failure, Request, Sample, SampleResult
from extracot_training.math_text.normalise import unit_interval
from extracot_training.math_text.verify import grader, verify
from extracot_training.pipeline.markdown import counts
from extracot_training.pipeline.progress import progress, warn_of_copies
from extracot_training.pipeline.records import (
    JsonlWriter,
    Problem,
    Trace,
    read_problems,
    read_rows,
    rows_file,
    write_rows,
)
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, lost, run_stage
from extracot_training.pipeline.statistics import quantiles
from extracot_training.policy.model_inputs import model_inputs
from extracot_training.stages.teach.endings import disagrees, without_mark
from extracot_training.stages.teach.tags import untagged

ATTEMPTS_FILENAME = "attempts.jsonl"
# What to do where every trace was left out, by why most were.
REMEDIES = {
    "truncated": "raise sampling.max_tokens",
    "unclosed": "raise sampling.max_tokens, or close the think tags",
    "no_reasoning": "take a model that reasons, or set require_reasoning to false",
    "think_tags": "leave think tags only around the reasoning",
    "no_box": "ask in instruction for the answer in \\boxed{}",
    "wrong": "take a stronger teacher or more samples, or correct the golds",
    "no_solution": "name the key of the solutions, or take another source of traces",
    "solution_disagrees": "correct the gold or the solution, which ends in another answer",
}
# A server that has refused so many requests and taken none will take none.
MOST_REFUSED = 64

CountTokens = Callable[[str], int]


class SampledTrace(Trace):
    """A trace with why it is not kept (``None``: it is) and how the reply ended."""

    reason: str | None = None
    finish_reason: str | None = None


def run(config: TeachConfig, *, force: bool = False) -> StageResult:
    """Fill ``config.out`` with kept :class:`Trace` rows. Raises :class:`StageError`, among others
    when requests failed in a way that may pass: the same command then asks for those alone."""

    def work(stage: StageRun) -> Counts:
        problems = read_problems(config.input, config.splits, config.limit)
        count = token_counter(config.tokenizer)
        with JsonlWriter(stage.folder / ATTEMPTS_FILENAME, SampledTrace) as writer:
            if config.source == "policy":
                asyncio.run(_sample(config, problems, writer, count))
            else:
                missing = [p for p in problems if sample_key(p, 0) not in writer]
                with progress(len(problems), "teach", done=len(problems) - len(missing)) as bar:
                    for problem in missing:
                        writer.write(_own(config, problem, count))
                        bar.update(1)
        return _finish(config, problems, stage)

    inputs = {"problems": rows_file(config.input)}
    if isinstance(config.backend, VllmBackend):
        inputs |= model_inputs(config.backend.model)
    return run_stage("teach", config, inputs, work, force=force)


def sample_key(problem: Problem, sample: int) -> str:
    """The key its trace will have."""
    return f"{problem.id}/{sample}"


def requests(
    config: TeachConfig, problems: Sequence[Problem], done: frozenset[str]
) -> Iterator[Request]:
    """What is still to be asked. A request's seed depends on its key, not on what came before."""
    for problem in problems:
        for sample in range(config.each):
            key = sample_key(problem, sample)
            if key not in done:
                seed = int(unit_interval("teach", config.seed, key) * 2**31)
                yield Request(key, _messages(config, problem.question), seed)


def _messages(config: TeachConfig, question: str) -> tuple[tuple[str, str], ...]:
    content = f"{question}\n{config.instruction}" if config.instruction else question
    system = (("system", config.system_prompt),) if config.system_prompt else ()
    return (*system, ("user", content))


async def _sample(
    config: TeachConfig, problems: Sequence[Problem], writer: JsonlWriter, count: CountTokens | None
) -> None:
    assert config.backend is not None
    done = writer.done_keys()
    total = len(problems) * config.each
    if len(done) >= total:
        return
    by_id = {problem.id: problem for problem in problems}
    failed: list[Failure] = []
    attempts = _Attempts(writer)
    warn_of_copies(config.sampling.temperature, config.each, "samples")
    backend = open_backend(config.backend)
    try:
        wanted = requests(config, problems, done)
        # aclosing: on an error, requests under way are cancelled here and not at some later time.
        async with aclosing(backend.run(wanted, config.sampling)) as results:
            with progress(total, "teach", done=len(done)) as bar:
                async for sampled in results:
                    bar.update(1)
                    if isinstance(sampled.result, Failure) and sampled.result.kind == "failed":
                        failed.append(sampled.result)
                        continue
                    problem = by_id[sampled.key.rpartition("/")[0]]
                    attempts.add(judge(config, problem, sampled, backend.name, count))
        attempts.end()
    finally:
        await backend.aclose()
    if failed:
        raise StageError(
            f"{len(failed)} of {total - len(done)} requests failed, such as: {failed[0].message}; "
            "the same command asks for these again"
        )


class _Attempts:
    """Writes attempts as they come; refusals only once the server took a request. A refusal of
    everything (a wrong name, no chat template) is the server's or the settings', not a problem's,
    and the next run asks again."""

    def __init__(self, writer: JsonlWriter) -> None:
        self._writer = writer
        self._refused: list[SampledTrace] | None = [] if not writer.done_keys() else None

    def add(self, row: SampledTrace) -> None:
        """Raises :class:`StageError` after so many refusals and nothing else."""
        if self._refused is None:
            self._writer.write(row)
            return
        self._refused.append(row)
        if row.reason != "refused":
            for waiting in self._refused:
                self._writer.write(waiting)
            self._refused = None
        elif len(self._refused) == MOST_REFUSED:
            self.end()

    def end(self) -> None:
        """Raises :class:`StageError` if every request was refused."""
        if self._refused:
            said = str(self._refused[0].finish_reason).removeprefix("refused: ")
            raise StageError(
                f"the server refused every request ({len(self._refused)}), the first so: {said}; "
                "the same command asks again"
            )


def judge(
    config: TeachConfig, problem: Problem, sampled: SampleResult, teacher: str,
    count: CountTokens | None,
) -> SampledTrace:  # fmt: skip
    """The result as a row, with the first reason against keeping it."""
    result = sampled.result
    if isinstance(result, Failure):
        result = Sample(None, "", closed=False, finish_reason=f"refused: {result.message}")
        reason: str | None = "refused"
    else:
        reason = _fault(config, result)
    verified = verify(result.answer, problem.answer)
    if reason is None and config.keep == "correct":
        reason = "no_box" if verified.answer is None else None if verified.correct else "wrong"
    reasoning = (result.reasoning or "").strip()
    return SampledTrace(
        **_of(problem, int(sampled.key.rpartition("/")[2])),
        reasoning=reasoning,
        answer=result.answer.strip(),
        correct=verified.correct if problem.meta.get("graded", True) else None,
        teacher=teacher,
        tokens=count(reasoning) if count is not None else result.reasoning_tokens,
        reason=reason,
        finish_reason=result.finish_reason,
    )


def _of(problem: Problem, sample: int) -> dict[str, Any]:
    """What every row says of its problem."""
    given = {"problem_id": problem.id, "sample": sample, "gold": problem.answer}
    return given | problem.model_dump(include={"question", "split"})


def _fault(config: TeachConfig, sample: Sample) -> str | None:
    if sample.finish_reason == "length":
        return "truncated"
    if sample.reasoning is not None and not sample.closed:
        return "unclosed"
    if config.require_reasoning and not (sample.reasoning or "").strip():
        return "no_reasoning"
    if has_tags(sample.reasoning or ""):
        return "think_tags"
    return None


def _own(config: TeachConfig, problem: Problem, count: CountTokens | None) -> SampledTrace:
    """The data's own solution as sample 0. ``synthetic`` is as the problem says."""
    terse = config.own_trace == "terse"
    text = str(problem.meta.get("terse") or "") if terse else problem.solution or ""
    parts = untagged(text)
    reasoning = without_mark(parts.reasoning, problem.answer)
    answer = str(problem.meta.get("final") or f"The answer is \\boxed{{{problem.answer}}}.")
    if parts.answer and verify(parts.answer, problem.answer).correct:
        answer = parts.answer
    verified = verify(answer, problem.answer)
    differs = disagrees(reasoning, problem.answer) or disagrees(parts.answer, problem.answer)
    reason = parts.fault
    if not reasoning.strip():
        reason = "no_solution"
    elif config.keep == "correct" and not verified.correct:
        reason = "wrong"
    elif config.keep == "correct" and differs:
        reason = reason or "solution_disagrees"
    return SampledTrace(
        **_of(problem, 0),
        reasoning=reasoning,
        answer=answer,
        correct=verified.correct and (reason is not None or not differs),
        teacher=f"own:{problem.source}",
        synthetic=problem.synthetic,
        tokens=count(reasoning) if count is not None else None,
        meta={} if terse else _labels(problem, reasoning),
        reason=reason,
    )


def _labels(problem: Problem, reasoning: str) -> dict[str, Any]:
    """The labels of the trace's steps, where the problem has some."""
    try:
        labels = StepLabels.of(problem.meta, reasoning)
    except ValueError as error:
        raise StageError(f"problem {problem.id}: {error}") from error
    return {} if labels is None else {META_KEY: problem.meta[META_KEY]}


def _nothing_kept(
    problems: Sequence[Problem], attempts: Mapping[str, SampledTrace], reasons: Counter[str]
) -> str:
    """Why, of which row the first, and what to do, in one line."""
    why = reasons.most_common(1)[0][0]
    first = next(one for one in attempts.values() if one.reason == why)
    problem = next(one for one in problems if one.id == first.problem_id)
    place = f"row {problem.meta['row']}" if "row" in problem.meta else "one"
    said = f", which was {first.finish_reason}" if why == "refused" else ""
    remedy = f"; {REMEDIES[why]}" if why in REMEDIES else ""
    return (
        f"no trace was kept: {counts(dict(reasons.most_common()))}; the first of {why} is {place} "
        f"of {problem.source} ({problem.question[:40]!r}){said}{remedy}"
    )


def _finish(config: TeachConfig, problems: Sequence[Problem], stage: StageRun) -> Counts:
    """Choose what is kept, write it in the problems' order, and report."""
    attempts = {row.key: row for row in read_rows(stage.folder / ATTEMPTS_FILENAME, SampledTrace)}
    reasons: Counter[str] = Counter()
    kept: list[Trace] = []
    solved = 0
    for problem in problems:
        keys = (sample_key(problem, sample) for sample in range(config.each))
        mine = [attempts[key] for key in keys if key in attempts]
        good = [attempt for attempt in mine if attempt.reason is None]
        chosen = good[: config.keep_per_problem]
        reasons.update(attempt.reason for attempt in mine if attempt.reason is not None)
        reasons["over_limit"] += len(good) - len(chosen)
        solved += any(attempt.correct for attempt in mine)
        kept += [Trace(**one.model_dump(include=set(Trace.model_fields))) for one in chosen]
    reasons = +reasons
    if not kept:
        raise StageError(_nothing_kept(problems, attempts, reasons))
    write_rows(stage.rows, kept)
    found = {
        "problems": len(problems),
        "attempts": len(attempts),
        "kept": len(kept),
        "grader": grader(),
        "rejected": dict(reasons.most_common()),
        "problems_solved": solved,
        "problems_kept": len({trace.problem_id for trace in kept}),
        "correct_rate": sum(bool(a.correct) for a in attempts.values()) / len(attempts),
        "teachers": dict(Counter(trace.teacher for trace in kept)),
        "reasoning_tokens": quantiles([t.tokens for t in kept if t.tokens is not None]),
        "reasoning_words": quantiles([len(trace.reasoning.split()) for trace in kept]),
    }
    stage.report(_markdown(found), found)
    made = {"kept": len(kept), "rejected": reasons.total(), "problems": len(problems)}
    return made | lost(reasons)


def _markdown(found: dict[str, Any]) -> str:
    lines = ["# Traces", "", "| | |", "|---|---|"]
    for name, value in found.items():
        shown = counts(value) if isinstance(value, dict) else value
        shown = f"{value:.3f}" if isinstance(value, float) else shown
        lines.append(f"| {name.replace('_', ' ')} | {shown} |")
    return "\n".join(lines) + "\n"
