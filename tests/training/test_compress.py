"""Budgets over whole atoms, the stage, the cleaning, the library call and the command line."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.cli import main
from extracot_training.compression.budget import RatioError, TokenCounter, allowance, spend, words
from extracot_training.compression.model import CompressorCard, new_model, save_compressor
from extracot_training.compression.scoring import CompressorScorer, TokenScores, atom_scores
from extracot_training.compression.segment import join, segment
from extracot_training.config.compress import CleaningSettings, CompressConfig
from extracot_training.errors import StageError
from extracot_training.pipeline.records import CompressedTrace, read_rows, write_rows
from extracot_training.policy.pretrained import load_tokenizer
from extracot_training.stages.compress import stage
from extracot_training.stages.compress.stage import ALL_ROWS, Compressor, clean_rows, fault, tidy
from tests.training.tiny import QUESTION, TRACE, save_encoder, trace, word_tokenizer

COUNTER = TokenCounter(word_tokenizer())
RATIOS = [0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compressor with random weights: budgets must hold whatever the scores."""
    root = tmp_path_factory.mktemp("compressor")
    save_encoder(root / "encoder")
    card = CompressorCard(
        encoder=str(root / "encoder"), weights="whole", length=96, question=16, overlap=0.25
    )
    model = new_model(card.encoder, None)
    save_compressor(model, load_tokenizer(card.encoder), card, root / "model")
    return root / "model"


# -- budgets

PIECES = st.sampled_from(["word ", "a ", "3 + 4 = 7. ", "$x^2 = 9$ ", "\\boxed{9} ", "12.5 km\n"])
TEXTS = st.lists(PIECES, max_size=60).map("".join)


@given(TEXTS, st.randoms(use_true_random=False), st.sampled_from([0.1, 0.2, 0.4, 0.8]))
def test_budgets_are_met_within_half_an_atom(text: str, rng: Any, ratio: float) -> None:
    atoms = segment(text)
    scores = [rng.random() for _ in atoms]
    (found,) = spend(text, atoms, scores, [ratio], COUNTER)
    assert found.text == join(atoms, found.kept)
    assert found.tokens == COUNTER.count(found.text)
    costs = COUNTER.per_atom(text, atoms)
    assert sum(costs) == found.tokens_full == COUNTER.count(text)
    if atoms:
        # One atom always stays, so a single large one may be more than the whole budget.
        least = max(ratio * found.tokens_full, costs[found.kept[0]] if found.kept else 0)
        assert abs(found.tokens - least) <= max(costs) / 2 + 1e-9 or len(found.kept) == 1


@given(TEXTS, st.randoms(use_true_random=False))
def test_larger_budgets_keep_what_smaller_ones_kept(text: str, rng: Any) -> None:
    atoms = segment(text)
    scores = [rng.random() for _ in atoms]
    found = spend(text, atoms, scores, RATIOS, COUNTER)
    for small, large in pairwise(found):
        assert set(small.kept) <= set(large.kept)
    assert found[-1].text == text


def test_what_must_stay_stays_and_overshoot_is_said() -> None:
    text = "a b c d $1 + 2 + 3 + 4 + 5 + 6 = 21$ e f"
    atoms = segment(text)
    (found,) = spend(text, atoms, [9, 9, 9, 9, 0, 9, 9], [0.1], COUNTER, always=[4])
    assert found.text == "$1 + 2 + 3 + 4 + 5 + 6 = 21$"
    assert found.overshoot == pytest.approx(found.realised - 0.1)
    assert found.overshoot <= allowance(COUNTER.per_atom(text, atoms)) + 0.5


def test_best_scores_go_first() -> None:
    atoms = segment("one two six ten")
    (found,) = spend("one two six ten", atoms, [0.1, 0.9, 0.2, 0.8], [0.5], COUNTER)
    assert found.text == "two ten"


@pytest.mark.parametrize("ratio", [0, -0.1, 1.01, float("nan")])
def test_ratios_outside_are_refused(ratio: float, folder: Path) -> None:
    with pytest.raises(RatioError, match=r"outside \(0, 1\]"):
        spend("a b", segment("a b"), [0, 0], [ratio], COUNTER)
    with pytest.raises(RatioError):
        Compressor.load(folder).compress("q", "a b", [0.5, ratio])


def test_words_cut_at_white_space_only() -> None:
    text = "  see $a + b$ now\n"
    assert [atom.body for atom in words(text)] == ["  ", "see", "$a", "+", "b$", "now"]
    assert join(words(text), range(6)) == text


# -- scores


def test_an_atoms_score_is_the_mean_of_its_tokens() -> None:
    atoms = segment("ab $x + y$ \x00 z")
    spans = ((0, 2), (2, 4), (4, 5), (6, 7), (8, 10), (13, 14))
    scores = atom_scores(atoms, TokenScores(spans, (1.0, 2.0, 4.0, 6.0, 8.0, 3.0)))
    assert scores[:2] == [1.0, 5.0]
    assert min(scores) == scores[2] == 0.0, "an atom without tokens comes last"
    assert scores[3] == 3.0


def test_one_pass_serves_all_ratios(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    logits = CompressorScorer._logits

    def counted(self: CompressorScorer, windows: Any) -> Any:
        passes.append(len(windows))
        return logits(self, windows)

    monkeypatch.setattr(CompressorScorer, "_logits", counted)
    long = " ".join([TRACE] * 3)
    found = Compressor.load(folder).compress(QUESTION, long, RATIOS)
    assert len(passes) == 1
    assert passes[0] > 3
    assert [one.target for one in found] == RATIOS


def test_batching_does_not_change_a_trace(folder: Path) -> None:
    compressor = Compressor.load(folder, batch=3)
    texts = [TRACE, "short one 2 + 2 = 4", TRACE.upper(), ""]
    together = compressor.compress_many([(QUESTION, text, None) for text in texts], [0.3, 0.6])
    for text, found in zip(texts, together, strict=True):
        assert found == compressor.compress(QUESTION, text, [0.3, 0.6])


# -- odd traces


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "$x = 5$",
        "\\[ open and $more \\boxed{3 ",
        "所以$x=5$是答案。因此三加四等于七。",
        "\x00",
        "}" * 50,
    ],
)
def test_odd_traces(text: str, folder: Path) -> None:
    found = Compressor.load(folder).compress("what?", text, [0.2, 1.0])
    assert found[1].text == text
    assert found[0].tokens <= max(found[0].tokens_full, 1)
    if text == "$x = 5$":
        assert found[0].text == text


def test_the_final_answer_stays(folder: Path) -> None:
    compressor = Compressor.load(folder)
    assert "8" in compressor.compress(QUESTION, TRACE, [0.05], answer="8")[0].text.split()[-1]
    boxed = TRACE + " $\\boxed{8}$ and so on and on"
    assert "$\\boxed{8}$" in compressor.compress(QUESTION, boxed, [0.05])[0].text


# -- cleaning


def row(
    target: float, text: str = "a b", sample: int = 0, realised: float | None = None
) -> CompressedTrace:
    return CompressedTrace(
        problem_id="p", sample=sample, question="q", answer="a", gold="8", target=target, text=text,
        realised=target if realised is None else realised, overshoot=0, tokens_full=100,
        tokens_kept=round(100 * target), kept_atoms=[0], n_atoms=2,
    )  # fmt: skip


def test_only_samples_at_every_ratio_are_kept() -> None:
    rows = [row(0.2), row(0.4), row(1.0), row(0.2, sample=1, realised=0.3), row(0.4, sample=1),
            row(1.0, sample=1)]  # fmt: skip
    kept, dropped = clean_rows(rows, (0.2, 0.4, 1.0), 0.05, CleaningSettings())
    assert [(one.sample, one.target) for one in kept] == [(0, 0.2), (0, 0.4), (0, 1.0)]
    assert dropped == {"outside its bucket": 1, "not at every ratio": 2}


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("3 + 4 = 7, so the cost is 7 and the change 20 - 7 = 13.", 20, None),
        ("a b", 2, "too short"),
        ("so then " * 12, 24, "repeated pairs"),
        ("go go go go go go go", 8, "one word in a row"),
        ("the a the b the c the d the e the f", 12, "one word too often"),
    ],
)
def test_unfit_texts_are_named(text: str, tokens: int, expected: str | None) -> None:
    assert fault(text, 0.2, tokens, CleaningSettings()) == expected


def test_stray_punctuation_goes_and_dots_stay() -> None:
    assert (
        tidy("so,, then;! wait... no.. $a,,b$ done......") == "so, then; wait... no. $a,,b$ done..."
    )


# -- the stage


def test_the_stage_goes_on_without_losing_or_doubling(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "teach" / "rows.jsonl", [trace(n) for n in range(5)])
    save_encoder(tmp_path / "policy")

    def config(out: str) -> CompressConfig:
        return CompressConfig(
            input=tmp_path / "teach", out=tmp_path / out, compressor=folder,
            tokenizer=str(tmp_path / "policy"), batch=2,
        )  # fmt: skip

    outcome = stage.run(config("whole"))
    assert outcome.counts["all"] == 25
    make = stage._row
    made: list[int] = []

    def failing(*args: Any) -> CompressedTrace:
        made.append(1)
        if len(made) == 13:
            raise RuntimeError("killed")
        return make(*args)

    monkeypatch.setattr(stage, "_row", failing)
    with pytest.raises(RuntimeError, match="killed"):
        stage.run(config("cut"))
    monkeypatch.setattr(stage, "_row", make)
    stage.run(config("cut"))
    for name in (ALL_ROWS, "rows.jsonl"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
    rows = list(read_rows(tmp_path / "whole" / ALL_ROWS, CompressedTrace))
    assert {one.n_atoms for one in rows} == {len(segment(TRACE))}
    assert json.loads((tmp_path / "whole" / "report.json").read_text())["levels"]["1"]["off"] == 0


# -- the command line


def files(tmp_path: Path) -> list[str]:
    (tmp_path / "trace.txt").write_text(TRACE, encoding="utf-8")
    (tmp_path / "q.txt").write_text(QUESTION, encoding="utf-8")
    return [
        "compress",
        "--text",
        str(tmp_path / "trace.txt"),
        "--question",
        str(tmp_path / "q.txt"),
    ]


def test_the_command_prints_the_text_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*files(tmp_path), "--ratio", "0.3", "--compressor", str(folder)])
    printed = capsys.readouterr()
    assert code == 0
    expected = Compressor.load(folder).compress(QUESTION, TRACE, [0.3])[0]
    assert printed.out == expected.text + "\n"
    assert f"kept {expected.tokens} of {expected.tokens_full} tokens" in printed.err


def test_the_command_highlights_on_a_terminal(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", screen)
    assert main([*files(tmp_path), "--compressor", str(folder)]) == 0
    shown = screen.getvalue()
    assert "\x1b[1m8.\x1b[0m" in shown
    plain = shown.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert plain == TRACE + "\n"


def test_a_million_characters_go_through_the_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The suite's time limit is the guard: anything quadratic takes hours on this.
    text = TRACE + "\n\n"
    (tmp_path / "long.txt").write_text(text * (1_000_000 // len(text) + 1), encoding="utf-8")
    flags = ["--text", str(tmp_path / "long.txt"), "--ratio", "0.3", "--compressor", str(folder)]
    assert main(["compress", *flags]) == 0
    printed = capsys.readouterr()
    assert ": 0.300, wanted 0.3\n" in printed.err
    equations = {atom.body for atom in segment(text) if "=" in atom.body}
    assert printed.out.count("=") == sum(map(printed.out.count, equations)) > 0, "one was cut"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--text", "nowhere.txt"], "--text nowhere.txt: No such file"),
        (["--ratio", "0.3"], "--ratio wants --text"),
        (["--text", "{trace}", "--ratio", "1.5"], "want a number in (0, 1]"),
        (["--text", "{trace}", "--ratio", "x"], "want a number in (0, 1]"),
        (["--text", "{trace}", "--compressor", "nowhere"], "no trained compressor"),
    ],
)
def test_wrong_flags_are_one_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.txt").write_text(TRACE, encoding="utf-8")
    given = [flag.replace("{trace}", str(tmp_path / "trace.txt")) for flag in flags]
    assert main(["compress", *given]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_standard_input_that_is_no_text_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 12"), "latin-1"))
    assert main(["compress", "--text", "-"]) == 2
    assert capsys.readouterr().err == "extracot-train: error: --text -: not UTF-8 text\n"


def test_the_shipped_compressor_keeps_the_equations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files(tmp_path), "--ratio", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "3 × 4 = 12" in printed
    assert "20 - 12 = 8" in printed
    assert "Hmm" not in printed


def test_random_scores_are_a_baseline_of_whole_atoms_with_the_answer(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "rows.jsonl", [trace(i) for i in range(6)])

    def texts(out: str, **settings: Any) -> list[str]:
        config = CompressConfig(
            input=tmp_path / "in", out=tmp_path / out, scores="random", ratios=(0.3, 1.0),
            tokenizer="bundled:minilm", bucket=1.0, **settings,
        )  # fmt: skip
        stage.run(config)
        return [row.text for row in read_rows(tmp_path / out / ALL_ROWS, CompressedTrace)]

    first, again, other = texts("a"), texts("b"), texts("c", seed=1)
    assert first == again != other
    assert first[1::2] == other[1::2], "level 1.0 is the whole trace, whatever the draws"
    for text, one in zip(first[::2], [trace(i) for i in range(6)], strict=True):
        assert one.gold in text
        kept, whole = segment(text), [atom.text.strip() for atom in segment(one.reasoning)]
        assert all(atom.text.strip() in whole for atom in kept)


def test_no_row_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    """Two short traces: every shortened one has fewer tokens than reasoning takes."""
    rows = [trace(number).model_copy(update={"reasoning": "2 = 2"}) for number in range(2)]
    write_rows(tmp_path / "rows.jsonl", rows)
    settings = CompressConfig(input=tmp_path / "rows.jsonl", out=tmp_path / "o", scores="random")
    with pytest.raises(
        StageError, match=r"none of 10 shortened traces is left: too short 8"
    ) as said:
        stage.run(settings)
    assert "set bucket or cleaning wider" in str(said.value)
    write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(StageError, match="no trace in it that is right"):
        stage.run(CompressConfig(input=tmp_path / "empty.jsonl", out=tmp_path / "p"))


def test_random_scores_read_no_compressor(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scores random reads no compressor"):
        CompressConfig(
            input=tmp_path, out=tmp_path / "o", scores="random", compressor=tmp_path / "c"
        )
