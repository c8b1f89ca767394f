"""Stage ``mix``: renders compressed traces to ids by :mod:`extracot.prompt`, and by nothing else.

A level's row ends its prompt in the level's token; a native row has none; a policy row ends in the
policy token and its reply begins with the level to choose, followed by the trace at that level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Any

from extracot.control import Control, level_token
from extracot_training.config.mix import MixConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.progress import progress
from extracot_training.pipeline.records import rows_file, write_rows
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, lost, run_stage
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.policy.mixed_rows import Kind, MixedRow
from extracot_training.policy.model_inputs import tokenizer_inputs
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.mix.fit import misfit
from extracot_training.stages.mix.report import figures_of, report_of
from extracot_training.stages.mix.sources import Source, policy_targets, read_sources

INPUTS = ("compressed", "traces", "reference", "problems")
TOKENIZER_FOLDER = "tokenizer"


def run(config: MixConfig, *, force: bool = False) -> StageResult:
    """Stage ``mix``."""
    named = {name: getattr(config, name) for name in INPUTS}
    inputs = {name: rows_file(folder) for name, folder in named.items() if folder is not None}
    inputs |= {f"also.{n}": rows_file(one.traces) for n, one in enumerate(config.also)}
    inputs |= tokenizer_inputs(config.model)  # a mixture does not depend on weights
    return run_stage("mix", config, inputs, lambda stage: _work(config, stage), force=force)


def _work(config: MixConfig, stage: StageRun) -> Counts:
    tokenizer, _ = load_policy_tokenizer(config.model, config.prompt)
    without: Counter[str] = Counter()
    plan = plan_rows(config, read_sources(config, without))
    maker = RowMaker(tokenizer, config.prompt)
    rows: list[MixedRow] = []
    too_long: Counter[str] = Counter()
    unfit: Counter[str] = Counter()
    with progress(len(plan), "rows") as bar:
        for entry in plan:
            row = maker.make(*entry)
            source, _, level, _ = entry
            reason = None
            if config.fit is not None and level is not None:
                reason = misfit(row, source.texts[level], source.full, source.answer, config.fit)
            if reason is not None:
                unfit[f"{row.kind} {level:g}: {reason}"] += 1
            elif row.length > config.cutoff:
                too_long[row.kind] += 1
            else:
                rows.append(row)
            bar.update()
    if not rows:
        raise StageError(
            f"none of {len(plan)} rows is left: {sum(too_long.values())} are longer than cutoff "
            f"{config.cutoff}, {sum(unfit.values())} do not fit their level"
        )
    _check_all_levels(config, plan, rows, unfit)
    Random(f"{config.seed} order").shuffle(rows)
    tokenizer.save_pretrained(stage.folder / TOKENIZER_FOLDER)
    config.prompt.save(stage.folder)
    write_rows(stage.rows, rows)
    figures = figures_of(rows, too_long, unfit) | {"without": dict(without)}
    stage.report(report_of(figures, config), figures)
    again = figures["policy_repeated"]
    return {"rows": len(rows), **{kind: figures["kinds"].get(kind, 0) for kind in
            ("level", "native", "policy")}, "over_cutoff": sum(too_long.values()),
            **({"policy_repeated": again} if again else {}),
            **lost({"over cutoff": sum(too_long.values()),
                    "did not fit their level": sum(unfit.values()), **without})}  # fmt: skip


def _check_all_levels(
    config: MixConfig, plan: Sequence[Planned], rows: Sequence[MixedRow], unfit: Counter[str]
) -> None:
    """A wanted level of which no row is left would be served without being taught."""
    if config.compressed is None:
        return  # whole traces alone, on purpose
    ratios = config.prompt.ratios
    there = {row.level for row in rows if row.kind == "level"}
    shares = zip(ratios, config.level_shares or (1.0,) * len(ratios), strict=True)
    missing = [(ratio, share) for ratio, share in shares if share and ratio not in there]
    if not missing:
        return
    remedies: dict[str, None] = {}
    told = []
    for ratio, share in missing:
        planned = sum(kind == "level" and level == ratio for _, kind, level, _ in plan)
        as_native = any(kind == "native" and ratio in of.texts for of, kind, _, _ in plan)
        misfits = sum(n for name, n in unfit.items() if name.startswith(f"level {ratio:g}:"))
        why = []
        if planned > misfits:
            why.append(f"{planned - misfits} of {planned} rows longer than cutoff {config.cutoff}")
            remedies["raise cutoff"] = None
        if misfits:
            why.append(f"{misfits} of {planned} rows do not fit it")
            remedies["raise fit.within or set fit to null"] = None
        if not planned and ratio == 1.0 and as_native:
            why.append(f"native_share {config.native_share:g} takes all of its rows")
            remedies["lower native_share"] = None
        elif not planned:
            why.append(f"level_shares gives it {share:g} of too few traces")
            remedies["raise its share in level_shares"] = None
        told.append(f"level {ratio:g} ({', '.join(why)})")
    if any(ratio != 1.0 for ratio, _ in missing):
        remedies["leave it out of prompt.ratios"] = None
    raise StageError(f"no row is left of {', '.join(told)}; {', or '.join(remedies)}")


Planned = tuple[Source, Kind, float | None, int]


def plan_rows(config: MixConfig, sources: Sequence[Source]) -> list[Planned]:
    """Which trace becomes which row: (source, kind, level, copy number)."""
    plan = list(_fixed_rows(config, sources))
    wanted = round(config.policy.share * len(plan))
    if not wanted:
        return plan
    random = Random(f"{config.seed} policy")
    sources = [source for source in sources if source.texts]
    targets = policy_targets(config, sources, random)
    pairs = [
        (source, target)
        for source, target in zip(sources, targets, strict=True)
        if target in source.texts
    ]
    if not pairs:
        raise StageError(f"{config.reference}: has no level for any problem of the traces")
    random.shuffle(pairs)
    for number in range(wanted):
        source, target = pairs[number % len(pairs)]
        plan.append((source, "policy", target, number // len(pairs)))
    return plan


def _fixed_rows(config: MixConfig, sources: Sequence[Source]) -> Iterator[Planned]:
    yield from ((source, "native", None, 0) for source in sources if not source.texts)
    ratios = config.prompt.ratios
    shares = config.level_shares or (1.0,) * len(ratios)
    for ratio, share in zip(ratios, shares, strict=True):
        random = Random(f"{config.seed} level {ratio:g}")
        have = [source for source in sources if ratio in source.texts]
        chosen = random.sample(have, round(share * len(have)))
        native = round(config.native_share * len(chosen)) if ratio == 1.0 else 0
        for source in chosen[:native]:
            yield source, "native", None, 0
        for source in chosen[native:]:
            yield source, "level", ratio, 0


class RowMaker:
    """Renders rows with one tokenizer.

    Raises :class:`extracot.errors.ControlTokenError` if a control token is not one id in it.
    """

    def __init__(self, tokenizer: Any, prompt: PromptSettings) -> None:
        self._prompt = prompt
        self._renderer = prompt.renderer(tokenizer)
        # A whole trace is counted once: several rows in turn are held against it.
        self._count = cache(lambda full: len(self._renderer.encode_text(full.strip())))
        self._around = {
            kind: self._end_of_reasoning(self._reply(kind, prompt.ratios[-1], "", "."))
            for kind in ("level", "native", *(("policy",) if prompt.policy else ()))
        }

    def make(self, source: Source, kind: Kind, level: float | None, copy_number: int) -> MixedRow:
        """One row. Raises :class:`extracot.errors.PromptError` for a text that is not Unicode."""
        text = source.full if level is None else source.texts[level]
        self._check_bare(source, text)
        control = self._control(kind, level)
        reply = self._reply(kind, level, text, source.answer)
        return MixedRow(
            problem_id=source.problem_id,
            sample=source.sample,
            kind=kind,
            level=level,
            copy_number=copy_number,
            prompt_ids=list(self._prompt.prompt_ids(self._renderer, source.question, control)),
            reply_ids=reply,
            reasoning_tokens=self._end_of_reasoning(reply) - self._around[kind],
            full_tokens=self._count(source.full),
        )

    def _check_bare(self, source: Source, text: str) -> None:
        for tag in (self._prompt.think_start, self._prompt.think_end):
            if tag in text:
                raise StageError(
                    f"trace {source.problem_id}/{source.sample}: {tag} is in its reasoning; want "
                    "the think text alone, for the tags are written around it"
                )

    def _control(self, kind: str, level: float | None) -> Control:
        if kind == "policy":
            return Control.policy()
        if kind == "native" or level is None:
            return Control.native()
        return Control.level(level_token(level))

    def _reply(self, kind: str, level: float | None, text: str, answer: str) -> list[int]:
        token = level_token(level) if kind == "policy" and level is not None else None
        control = self._control(kind, level)
        return list(self._renderer.reply_ids(control, text, answer, level_token=token))

    def _end_of_reasoning(self, reply: Sequence[int]) -> int:
        """Where the think block closes; the think text is what moves it from an empty one's."""
        assert self._renderer.think_end_id is not None  # prepared: one id
        return list(reply).index(self._renderer.think_end_id)
