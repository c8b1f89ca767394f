"""The mixture: which rows there are, how they are rendered, what is left out and what refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer

from extracot.control import Control, level_token
from extracot.conversation import Message
from extracot.prompt import PromptRenderer
from extracot_training.cli import main
from extracot_training.errors import RowError, StageError
from extracot_training.pipeline.records import CompressedTrace, Trace, read_rows, write_rows
from extracot_training.pipeline.stage import Status
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.mix.sources import apportion
from extracot_training.stages.mix.stage import run
from tests.training.tiny_policy import (
    RATIOS,
    full_text,
    make_base,
    mix_config,
    question,
    write_traces,
)

COUNT = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mix")
    write_traces(root, COUNT)
    make_base(root)
    return root


def mixed(root: Path, out: Path, **settings: Any) -> list[MixedRow]:
    return list(read_rows(run(mix_config(root, out=out / "mix", **settings)).folder, MixedRow))


def groups(rows: list[MixedRow]) -> Counter[tuple[str, float | None]]:
    return Counter((row.kind, row.level) for row in rows)


def number_of(row: MixedRow) -> int:
    return int(row.problem_id.removeprefix("p"))


def reference(folder: Path, targets: dict[str, tuple[float, bool]]) -> Path:
    folder.mkdir()
    lines = [
        json.dumps({"problem_id": name, "r_star": r, "unanimous": u, "question": "q", "l_ref": 9})
        for name, (r, u) in targets.items()
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_every_level_has_every_trace_and_half_of_level_one_is_native(
    root: Path, tmp_path: Path
) -> None:
    rows = mixed(root, tmp_path)
    assert groups(rows) == {
        **{("level", ratio): COUNT for ratio in RATIOS[:-1]},
        ("level", 1.0): COUNT // 2,
        ("native", None): COUNT // 2,
    }
    whole = {row.problem_id for row in rows if row.level in (None, 1.0)}
    assert len(whole) == COUNT, "tagged and native rows share the traces out"


def test_without_compressed_traces_every_row_is_a_whole_native_one(
    root: Path, tmp_path: Path
) -> None:
    rows = mixed(root, tmp_path, compressed=None, traces=root / "teach")
    assert groups(rows) == {("native", None): COUNT}
    assert all(row.reasoning_tokens == row.full_tokens for row in rows)
    with pytest.raises(ValidationError, match="want `traces`, and no policy"):
        mix_config(root, out=tmp_path / "x", compressed=None, traces=None)
    with pytest.raises(ValidationError, match="want `traces`, and no policy"):
        mix_config(root, out=tmp_path / "x", compressed=None, traces=root, policy={"share": 0.5})


def test_further_native_rows_come_from_traces_that_were_not_compressed(
    root: Path, tmp_path: Path
) -> None:
    some = [row for row in read_rows(root / "compress", CompressedTrace) if row.problem_id < "p5"]
    known = {row.problem_id for row in some}
    write_rows(tmp_path / "few.jsonl", some)
    settings = {"compressed": tmp_path / "few.jsonl", "traces": root / "teach"}
    rows = mixed(root, tmp_path, **settings, further_native=3, policy={"share": 0.5})
    further = [row for row in rows if row.problem_id not in known]
    assert groups(further) == {("native", None): 3}
    assert {row.problem_id for row in rows if row.kind == "policy"} <= known
    with pytest.raises(StageError, match=f"only {COUNT - len(known)} traces were not compressed"):
        run(mix_config(root, out=tmp_path / "x", **settings, further_native=COUNT))


def test_other_folders_give_native_rows_of_problems_that_are_new(
    root: Path, tmp_path: Path
) -> None:
    """Replies without reasoning among them, and of a problem that is there already none."""
    shared = {"sample": 0, "gold": "any", "correct": None, "teacher": "base", "synthetic": False}
    talk = [
        Trace(problem_id=f"t{n}", question=question(n), reasoning="", answer=f"Hello {n}.",
              split="dev" if n == 5 else "train", **shared)
        for n in range(6)
    ]  # fmt: skip
    again = Trace(problem_id="p1", question=question(1), reasoning="", answer="No.", **shared)
    write_rows(tmp_path / "talk.jsonl", [*talk, again])
    also = [{"traces": tmp_path / "talk.jsonl"}]
    rows = mixed(root, tmp_path, also=also, policy={"share": 0.5})
    added = [row for row in rows if not row.problem_id.startswith("p")]
    assert groups(added) == {("native", None): 5}
    assert {row.problem_id for row in added} == {f"t{n}" for n in range(5)}, "train alone"
    assert {row.reasoning_tokens for row in added} == {0}
    assert {row.problem_id for row in rows if row.kind == "policy"}.isdisjoint(
        row.problem_id for row in added
    )
    drawn = mixed(root, tmp_path / "two", also=[{**also[0], "limit": 2}])
    assert sum(row.problem_id.startswith("t") for row in drawn) == 2


def test_rows_are_what_the_renderer_makes(root: Path, tmp_path: Path) -> None:
    rows = mixed(root, tmp_path, policy={"share": 0.5})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "mix" / "tokenizer")
    prompt = PromptSettings.load(tmp_path / "mix")
    tokens = [*map(level_token, RATIOS), "<COMP_POLICY>"]
    renderer = PromptRenderer(tokenizer, instruction=prompt.instruction, control_tokens=tokens)
    for row in rows:
        number = number_of(row)
        control, chosen = Control.native(), None
        if row.kind == "policy":
            control, chosen = Control.policy(), level_token(row.level or 0)
        elif row.level is not None:
            control = Control.level(level_token(row.level))
        rendered = renderer.render([Message("user", question(number))], control)
        assert tuple(row.prompt_ids) == rendered.prompt_ids
        assert tuple(row.reply_ids)[: len(rendered.prefill_ids)] == rendered.prefill_ids
        words = full_text(number).split()
        text = " ".join(words[: round((row.level or 1.0) * len(words))])
        answer = f"\\boxed{{{2 * number + 1}}}"
        reply = renderer.reply_ids(control, text, answer, level_token=chosen)
        assert tuple(row.reply_ids) == reply
        assert row.reasoning_tokens == len(renderer.encode_text(text))
        assert row.full_tokens == len(renderer.encode_text(full_text(number)))


def test_rows_read_as_the_protocol_says(root: Path, tmp_path: Path) -> None:
    rows = mixed(root, tmp_path, policy={"share": 1.0})
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "mix" / "tokenizer")
    for row in rows:
        prompt, reply = tokenizer.decode(row.prompt_ids), tokenizer.decode(row.reply_ids)
        asked = {"native": "", "policy": " <COMP_POLICY>"}.get(row.kind)
        if asked is None:
            asked = f" {level_token(row.level or 0)}"
        assert prompt.endswith(f"have?{asked}<|im_end|>\n<|im_start|>assistant\n")
        start = "" if row.level is None else f"{level_token(row.level)}\n"
        assert reply.startswith(f"{start}<think>\nstart with")
        assert reply.endswith(f"\n</think>\n\n\\boxed{{{2 * number_of(row) + 1}}}<|im_end|>")


def test_the_system_prompt_is_in_every_row(root: Path, tmp_path: Path) -> None:
    settings = {"system_prompt": "Count well.", "instruction": "Think."}
    rows = mixed(root, tmp_path, prompt=settings)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "mix" / "tokenizer")
    for row in rows:
        text = tokenizer.decode(row.prompt_ids)
        assert text.startswith(
            "<|im_start|>system\nCount well.<|im_end|>\n<|im_start|>user\nThink."
        )


def test_policy_levels_follow_the_proportions(root: Path, tmp_path: Path) -> None:
    shares = [0.5, 0.25, 0.25, 0.0, 0.0]
    rows = mixed(root, tmp_path, policy={"share": 0.2, "proportions": shares})
    policy = Counter(row.level for row in rows if row.kind == "policy")
    assert policy == {0.2: 6, 0.4: 3, 0.6: 3}, "12 rows: a fifth of 60"
    assert "not measured" in (tmp_path / "mix" / "report.md").read_text()


def test_policy_levels_are_measured_where_there_is_a_reference(root: Path, tmp_path: Path) -> None:
    levels = {f"p{n}": (RATIOS[n % 5], n != 4) for n in range(10)}
    folder = reference(tmp_path / "reference", levels)
    rows = mixed(root, tmp_path, reference=folder, policy={"share": 0.5})
    policy = [row for row in rows if row.kind == "policy"]
    assert len(policy) == 30
    assert {row.problem_id for row in policy} == set(levels), "p10, p11 have no r*"
    assert all(row.level == levels[row.problem_id][0] for row in policy)
    copies = Counter(row.problem_id for row in policy)
    assert set(copies.values()) == {3}, "each as often as the others"
    assert len({row.key for row in rows}) == len(rows)
    solved = mixed(
        root, tmp_path / "solved", reference=folder, policy={"share": 0.5, "unsolved": False}
    )
    assert "p4" not in {row.problem_id for row in solved if row.kind == "policy"}


def test_an_r_star_that_is_no_level_is_refused(root: Path, tmp_path: Path) -> None:
    folder = reference(tmp_path / "reference", {"p0": (0.3, True)})
    with pytest.raises(StageError, match=r"r_star 0\.3 of problem 'p0' is no level"):
        mixed(root, tmp_path, reference=folder, policy={"share": 0.5})


def test_long_rows_are_counted_and_left_out_and_none_is_cut(root: Path, tmp_path: Path) -> None:
    given = [
        row.model_copy(update={"question": "Think hard. " * int(row.problem_id[1:]) + row.question})
        for row in read_rows(root / "compress", CompressedTrace)
    ]
    write_rows(tmp_path / "rows.jsonl", given)
    settings = {"compressed": tmp_path / "rows.jsonl"}
    every = {row.key: row for row in mixed(root, tmp_path / "all", **settings)}
    cutoff = sorted(row.length for row in every.values())[len(every) // 2]
    rows = mixed(root, tmp_path, **settings, cutoff=cutoff)
    assert {row.key for row in rows} == {k for k, r in every.items() if r.length <= cutoff}
    assert all(row == every[row.key] for row in rows)
    figures = json.loads((tmp_path / "mix" / "report.json").read_text())
    assert sum(figures["over_cutoff"].values()) == len(every) - len(rows) > 0
    with pytest.raises(StageError, match="longer than cutoff 16"):
        mixed(root, tmp_path / "none", cutoff=16)


def test_only_the_wanted_splits_are_used(root: Path, tmp_path: Path) -> None:
    rows = mixed(root, tmp_path, problems=root / "problems")
    assert {number_of(row) for row in rows} == set(range(8))
    rows = mixed(root, tmp_path / "dev", problems=root / "problems", splits=["dev"])
    assert {number_of(row) for row in rows} == set(range(8, 12))
    with pytest.raises(StageError, match="no trace of splits test"):
        mixed(root, tmp_path / "test", problems=root / "problems", splits=["test"])


def test_shares_of_levels(root: Path, tmp_path: Path) -> None:
    rows = mixed(root, tmp_path, level_shares=[1, 0.5, 0, 0.25, 1], native_share=0.75)
    assert groups(rows) == {
        ("level", 0.2): 12, ("level", 0.4): 6, ("level", 0.8): 3, ("level", 1.0): 3,
        ("native", None): 9,
    }  # fmt: skip


def test_a_level_of_which_no_row_is_left_is_refused(root: Path, tmp_path: Path) -> None:
    every = mixed(root, tmp_path / "all")
    cutoff = max(row.length for row in every if row.level == 0.6)
    for settings, message in (
        ({"cutoff": cutoff}, rf"level 1 \(6 of 6 rows longer than cutoff {cutoff}\); raise cutoff"),
        ({"native_share": 1.0}, r"level 1 \(native_share 1 takes all .*; lower native_share$"),
        ({"level_shares": [0.01, 1, 0, 0.02, 1]},
         r"level 0\.2 \(level_shares gives it 0\.01 .*level 0\.8 .*raise its share in "),
    ):  # fmt: skip
        with pytest.raises(StageError, match=message) as caught:
            mixed(root, tmp_path / "x", **settings)
        assert "0.6" not in str(caught.value)


def test_a_level_without_rows_is_refused(root: Path, tmp_path: Path) -> None:
    lines = (root / "compress" / "rows.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["target"] != 0.4]
    (tmp_path / "rows.jsonl").write_text("\n".join(kept) + "\n")
    with pytest.raises(StageError, match=r"no row of level 0\.4; there are 0\.2, 0\.6, 0\.8, 1"):
        mixed(root, tmp_path, compressed=tmp_path / "rows.jsonl")


def test_the_whole_trace_comes_from_the_teacher_where_given(root: Path, tmp_path: Path) -> None:
    lines = (root / "compress" / "rows.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["target"] != 1.0]
    (tmp_path / "rows.jsonl").write_text("\n".join(kept) + "\n")
    rows = mixed(root, tmp_path, compressed=tmp_path / "rows.jsonl", traces=root / "teach")
    assert sum(row.level in (1.0, None) for row in rows) == COUNT
    assert all(row.realised == 1.0 for row in rows if row.level in (1.0, None))


def test_the_report_tells_ratios_of_sums(root: Path, tmp_path: Path) -> None:
    rows = mixed(root, tmp_path)
    figures = json.loads((tmp_path / "mix" / "report.json").read_text())
    own = [row for row in rows if row.level == 0.4]
    ratio = sum(row.reasoning_tokens for row in own) / sum(row.full_tokens for row in own)
    assert figures["groups"]["level 0.4"]["realised"] == pytest.approx(ratio, abs=1e-4)
    assert sum(b["rows"] for b in figures["length_histogram"]) == len(rows)
    assert figures["lengths"]["max"] == max(row.length for row in rows)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(
    root: Path, tmp_path: Path
) -> None:
    one = mixed(root, tmp_path / "a", seed=1)
    assert mixed(root, tmp_path / "b", seed=1) == one
    other = mixed(root, tmp_path / "c", seed=2)
    assert [row.key for row in other] != [row.key for row in one]


def test_a_finished_mixture_is_up_to_date(root: Path, tmp_path: Path) -> None:
    config = mix_config(root, out=tmp_path / "mix")
    assert run(config).status is Status.DONE
    assert run(config).status is Status.UP_TO_DATE
    with pytest.raises(StageError, match="settings: native_share"):
        run(mix_config(root, out=tmp_path / "mix", native_share=0.1))


def test_rows_that_say_their_split_need_no_problems(root: Path, tmp_path: Path) -> None:
    """Rows of older versions don't say it: they are joined with ``problems``, or all are used."""
    splits = {f"p{n}": "train" if n < COUNT * 2 // 3 else "dev" for n in range(COUNT)}
    said = [
        row.model_copy(update={"split": splits[row.problem_id]})
        for row in read_rows(root / "compress", CompressedTrace)
    ]
    write_rows(tmp_path / "compress.jsonl", said)
    joined = mixed(root, tmp_path / "joined", problems=root / "problems")
    assert mixed(root, tmp_path / "said", compressed=tmp_path / "compress.jsonl") == joined
    with pytest.raises(StageError, match="of splits test"):
        mixed(root, tmp_path / "x", compressed=tmp_path / "compress.jsonl", splits=["test"])


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any),
    st.integers(0, 200),
)
def test_apportioned_levels_are_nearest_to_their_shares(weights: list[int], count: int) -> None:
    shares = [weight / sum(weights) for weight in weights]
    levels = [float(n) for n in range(len(shares))]
    numbers = Counter(apportion(levels, shares, count))
    assert sum(numbers.values()) == count
    for level, share in zip(levels, shares, strict=True):
        assert abs(numbers[level] - share * count) < 1.0 + 1e-9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": {"ratios": [0.2, 0.4]}}, "want 1.0 as the last"),
        ({"level_shares": [1.0]}, "want 5, one per"),
        ({"policy": {"share": 0.1}, "prompt": {"policy": False}}, "prompt.policy is off"),
        ({"policy": {"share": 0.1, "proportions": [0.5, 0.5]}}, "add up to 1"),
        ({"prompt": {"ratios": [0.125, 1.0]}}, "whole percents"),
        ({"polcy": {}}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        mix_config(root, **settings)


def test_a_misspelt_setting_is_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"compressed={root / 'compress'}", f"model={root / 'base'}", "policy.shares=0.1"]
    code = main(["mix", "--out", str(tmp_path), *(f for x in flags for f in ("--set", x))])
    assert code == 2
    assert "unknown setting 'policy.shares' (did you mean 'share'?)" in capsys.readouterr().err


def test_a_row_that_lacks_its_level_is_named(tmp_path: Path) -> None:
    row = {
        "problem_id": "p", "sample": 0, "kind": "level", "level": 0.4, "prompt_ids": [1],
        "reply_ids": [2], "reasoning_tokens": 1, "full_tokens": 1,
    }  # fmt: skip
    path = tmp_path / "rows.jsonl"
    for change in ({"level": None}, {"kind": "native"}, {"reply_ids": []}):
        path.write_text(json.dumps(row) + "\n" + json.dumps(row | change) + "\n")
        with pytest.raises(RowError, match=r"rows\.jsonl:2: "):
            list(read_rows(path, MixedRow))
    path.write_text(json.dumps({k: v for k, v in row.items() if k != "level"}))
    with pytest.raises(RowError, match="field 'level'"):
        list(read_rows(path, MixedRow))


@pytest.mark.parametrize("text", ["<think>\n1 + 1\n</think>", "1 + 1</think> 2"])
def test_a_trace_with_think_tags_is_not_wrapped_twice(
    root: Path, tmp_path: Path, text: str
) -> None:
    rows = list(read_rows(root / "compress", CompressedTrace))
    spoilt = [row.model_copy(update={"text": text}) for row in rows[:5]]
    write_rows(tmp_path / "rows.jsonl", spoilt)
    key = f"{spoilt[0].problem_id}/{spoilt[0].sample}"
    with pytest.raises(StageError, match=rf"trace {key}: </?think> is in its reasoning"):
        mixed(root, tmp_path, compressed=tmp_path / "rows.jsonl")


def test_control_tokens_in_a_problem_stay_text(root: Path, tmp_path: Path) -> None:
    rows = list(read_rows(root / "compress", CompressedTrace))
    typed = "Say </think> and <COMP_20> now."
    spoilt = [row.model_copy(update={"question": typed}) for row in rows[:5]]
    write_rows(tmp_path / "rows.jsonl", spoilt)
    made = mixed(root, tmp_path, compressed=tmp_path / "rows.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "mix" / "tokenizer")
    ids = {n: tokenizer.convert_tokens_to_ids(n) for n in ("</think>", "<COMP_20>")}
    for row in made:
        assert typed in tokenizer.decode(row.prompt_ids)
        assert ids["</think>"] not in row.prompt_ids
        assert row.prompt_ids.count(ids["<COMP_20>"]) == (row.level == 0.2)
