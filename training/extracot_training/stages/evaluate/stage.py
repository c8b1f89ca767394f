"""Stage ``evaluate``: problems asked of a running server at every budget, judged and reported.

Every reply is a line of ``replies.jsonl`` as soon as it is there; a run that was cut asks only for
what is missing. Replies are judged when all are there, so that judging never slows what is timed;
``rows.jsonl`` then holds them in the order of the problems.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing

from extracot_training.compression.budget import token_counter
from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.figures import figures_of
from extracot_training.evaluation.plots import draw
from extracot_training.evaluation.report import report_of
from extracot_training.evaluation.rows import REPLIES_FILENAME, EvalRow, Reply, budget_name, row_key
from extracot_training.evaluation.server import (
    SERVER_FILENAME,
    Server,
    inspect_server,
    open_client,
    recall,
    remember,
)
from extracot_training.evaluation.working import calculations
from extracot_training.math_text.verify import verify
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.progress import progress, warn_of_copies
from extracot_training.pipeline.records import (
    JsonlWriter,
    Problem,
    read_problems,
    read_rows,
    rows_file,
    write_rows,
)
from extracot_training.pipeline.reference_rows import read_r_star
from extracot_training.pipeline.stage import (
    MANIFEST_FILENAME,
    Counts,
    Manifest,
    StageResult,
    StageRun,
    check_settings,
    locked,
    run_stage,
)
from extracot_training.stages.evaluate.client import EvalClient, Failed, questions

CountTokens = Callable[[str], int]


def run(config: EvaluateConfig, *, force: bool = False) -> StageResult:
    """Fill ``config.out`` with :class:`EvalRow` rows and the report. Raises :class:`StageError`,
    among others when requests failed in a way that may pass: the same command then asks for those
    alone."""
    rows = rows_file(config.input)

    def work(stage: StageRun) -> Counts:
        problems = read_problems(config.input, config.splits, config.limit)
        r_star = read_r_star(config.reference) if config.reference is not None else {}
        count = token_counter(config.tokenizer)
        server = asyncio.run(_ask_all(config, problems, stage))
        return _finish(config, problems, server, stage, r_star, count)

    _reopen(config, force=force)
    return run_stage("evaluate", config, {"problems": rows}, work, force=force)


def _reopen(config: EvaluateConfig, *, force: bool) -> None:
    """A finished folder whose report was made with other settings is to be reported anew; one in
    which nothing was answered yet (no server, a wrong key) binds nobody to its settings. Raises
    :class:`StageError` where the replies were made with others."""
    found = Manifest.load_out(config.out)
    if found is None or found.stage != "evaluate":
        return
    replies, now = config.out / REPLIES_FILENAME, config.model_dump(mode="json")
    with locked(config.out):
        if found.finished is None and not (replies.is_file() and replies.stat().st_size):
            for name in (REPLIES_FILENAME, SERVER_FILENAME, MANIFEST_FILENAME):
                (config.out / name).unlink(missing_ok=True)
        elif any(found.config.get(key) != now[key] for key in config.judging):
            if not force:
                check_settings("evaluate", config)
            found.model_copy(update={"finished": None, "config": now}).save(config.out)


async def _ask_all(config: EvaluateConfig, problems: Sequence[Problem], stage: StageRun) -> Server:
    """Ask what is missing, one budget after another, so that times belong to one budget."""
    total = len(problems) * config.samples * len(config.budgets)
    failed: list[Failed] = []
    in_a_row = 0
    with JsonlWriter(stage.folder / REPLIES_FILENAME, Reply) as writer:
        done = writer.done_keys()
        if len(done) >= total and (known := recall(stage.folder)) is not None:
            return known
        warn_of_copies(config.sampling.temperature, config.samples, "samples")
        async with open_client(config) as client:
            server = await inspect_server(client, config)
            remember(server, stage.folder)
            eval_client = EvalClient(client, server, config)
            with progress(total, "evaluate", done=len(done)) as bar:
                for budget in config.budgets:
                    bar.set_postfix(budget=budget_name(budget))
                    wanted = questions(config, problems, budget, done)
                    # aclosing: on an error, requests under way are cancelled here.
                    async with aclosing(eval_client.run(wanted)) as replies:
                        async for reply in replies:
                            bar.update(1)
                            if not isinstance(reply, Failed):
                                writer.write(reply)
                                in_a_row = 0
                                continue
                            failed.append(reply)
                            in_a_row += 1
                            if in_a_row >= 2 * config.concurrency:
                                raise _failure(f"{in_a_row} requests in a row", failed)
    if failed:
        raise _failure(f"{len(failed)} of {total - len(done)} requests", failed)
    return server


def _failure(what: str, failed: Sequence[Failed]) -> StageError:
    said = f"{what} failed, such as: {failed[0].message}"
    return StageError(f"{said}; the same command asks for these again")


def _finish(
    config: EvaluateConfig,
    problems: Sequence[Problem],
    server: Server,
    stage: StageRun,
    r_star: dict[str, float],
    count: CountTokens | None,
) -> Counts:
    replies = {row.key: row for row in read_rows(stage.folder / REPLIES_FILENAME, Reply)}
    rows = [
        _judged(replies[key], problem, count)
        for problem in problems
        for budget in config.budgets
        for sample in range(config.samples)
        if (key := row_key(problem.id, budget_name(budget), sample)) in replies
    ]
    refused = [row for row in rows if row.refused is not None]
    if len(refused) == len(rows):
        raise StageError(f"every request was refused, such as: {refused[0].refused}")
    write_rows(stage.rows, rows)
    figures = figures_of(rows, problems, config, server, r_star)
    for name, image in draw(figures).items():
        write_atomic(stage.folder / name, image)
    stage.report(report_of(figures), figures)
    correct = Counter(row.budget for row in rows if row.correct)
    return {"rows": len(rows), "refused": len(refused), "correct": dict(correct)}


def _judged(reply: Reply, problem: Problem, count: CountTokens | None) -> EvalRow:
    """The reply as judged, and with its tokens counted where the server did not."""
    verified = verify(reply.answer, problem.answer)
    judged, failed = calculations(f"{reply.reasoning}\n\n{reply.answer}")
    fields = reply.model_dump(exclude={"reasoning"})
    if reply.refused is None and reply.reasoning_tokens is None:
        if count is None:
            raise StageError(f"{reply.key}: its reasoning is not counted; set tokenizer")
        fields["reasoning_tokens"] = count(reply.reasoning)
        fields["answer_tokens"] = count(reply.answer)
    return EvalRow(
        **fields,
        gold=problem.answer,
        **problem.model_dump(include={"family", "steps"}),
        asked=problem.asked,
        boxed=verified.answer,
        correct=verified.correct,
        strict=verified.strict,
        calculations=judged,
        miscalculated=failed,
    )
