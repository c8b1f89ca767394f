"""Settings of the stage ``problems``: which sources, how they are checked, how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from extracot_training.pipeline.records import NonEmpty, Split
from extracot_training.pipeline.settings import Section, Seed, StageConfig

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Key = Annotated[str, Field(min_length=1)]
FIELDS = "which keys hold what, such as question=problem,answer=final (or a mapping)"

TWO_DIGITS = "sums and differences of two digits are written out too"


class ProblemSource(Section):
    """What every source has. ``split`` puts all its rows there instead of splitting by seed."""

    split: Split | None = Field(None, description="put all rows into this split")
    limit: int | None = Field(None, gt=0, description="read at most so many rows")


class FieldMap(Section):
    """Which keys of a row hold what: ``{question: prompt, answer: reward_model.ground_truth}``, or
    the same as text, ``question=prompt,answer=reward_model.ground_truth``."""

    question: Key = Field("question", description="key of the question, such as problem")
    answer: Key = Field(
        "answer", description="key of the gold answer; below others: reward_model.ground_truth"
    )
    solution: Key | None = Field(None, description="key of the worked solution, such as cot")
    family: Key | None = Field(None, description="key of the family, for held-out families")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str):
            pairs = [part.partition("=") for part in given.split(",")]
            if all(name.strip() and key.strip() for name, _, key in pairs):
                names = [name.strip() for name, _, _ in pairs]
                if twice := [name for name in names if names.count(name) > 1]:
                    raise ValueError(f"{twice[0]} is there twice")
                return {name.strip(): key.strip() for name, _, key in pairs}
        if isinstance(given, Mapping | cls):
            return given
        raise ValueError(
            "want keys of a row by name, such as {question: problem, answer: final} "
            "or question=problem,answer=final"
        )


class RowSource(ProblemSource):
    """Rows that others made."""

    bad_rows: Literal["refuse", "skip"] = Field(
        "refuse",
        description="what is no row, or one without question or gold: an error, or left out and "
        "counted",
    )


class FileSource(RowSource):
    path: Path = Field(description="file: JSONL, JSON, CSV, TSV or Parquet")
    license: str = Field("MIT", description="licence recorded in each row")


class Gsm8kSource(FileSource):
    """Question, and answer with '#### 72'."""

    kind: Literal["gsm8k"] = "gsm8k"
    solutions: Literal["given", "retold", "calculations"] = Field(
        "given",
        description="as they are; told again with hard calculations written out; or those alone",
    )
    two_digits: bool = Field(False, description=TWO_DIGITS)

    @model_validator(mode="after")
    def _retold(self) -> Self:
        if self.two_digits and self.solutions == "given":
            raise ValueError("two_digits: wants solutions: retold or calculations")
        return self


class MathSource(FileSource):
    """MATH or MATH-500: problem, solution, answer."""

    kind: Literal["math"] = "math"


class AmcSource(FileSource):
    """AMC-style: problem or question, answer."""

    kind: Literal["amc"] = "amc"
    license: str = Field("unknown", description="licence recorded in each row")


class JsonlSource(FileSource):
    """Any file of rows, by a field map."""

    kind: Literal["jsonl"] = "jsonl"
    name: NonEmpty = Field(description="name recorded as the rows' source, such as mine")
    license: str = Field(description="licence recorded in each row, such as CC-BY-4.0 or unknown")
    fields: FieldMap = Field(default_factory=FieldMap, description=FIELDS)


class HubSource(RowSource):
    kind: Literal["huggingface"] = "huggingface"
    name: NonEmpty = Field(description="data set name on the hub, or a local folder or file")
    subset: str | None = Field(None, description="configuration of the data set")
    part: str = Field("train", description="the data set's own split to read")
    revision: str | None = Field(None, description="commit of the data set")
    license: str = Field(description="licence recorded in each row, such as CC-BY-4.0 or unknown")
    fields: FieldMap = Field(default_factory=FieldMap, description=FIELDS)


class GsmSymbolicSource(ProblemSource):
    kind: Literal["gsm_symbolic"] = "gsm_symbolic"
    size: int = Field(gt=0, description="rows to draw")
    seed: Seed = Field(0, description="seed of the draw")
    heldout: tuple[int, ...] = Field((), description="generator functions held out, by number")
    heldout_share: Share = Field(0.0, description="or this share of them, drawn by seed")


class GeneratorSource(ProblemSource):
    kind: Literal["generator"] = "generator"
    size: int = Field(gt=0, description="problems to make")
    seed: Seed = Field(0, description="seed; problem i does not depend on size")
    max_number: int = Field(1000, ge=20, description="bound of every number that occurs")
    steps: tuple[int, int] = Field((2, 8), description="fewest and most equations per problem")
    families: tuple[str, ...] | None = Field(None, description="only these; all that fit if empty")
    heldout: tuple[str, ...] = Field((), description="families that go into heldout_families")
    verbosity: Share = Field(1.0, description="how talkative traces are, 0 to 1")
    trace: Literal["verbose", "brief", "terse"] = Field(
        "verbose", description="what solution holds: brief is a fixed sentence per step"
    )
    threads: int = Field(
        1, ge=1, le=6, description="stories per problem, worked through together, one asked for"
    )
    asked: tuple[int, ...] = Field(
        (1,),
        min_length=1,
        description="or for the sum of so many, each number alike often, such as [1, 2, 3]",
    )
    distinct: bool = Field(False, description="the stories of a problem are of different families")
    interleaved: bool = Field(True, description="their steps are mixed in the trace")
    thorough: bool = Field(
        False, description="told in turn, each story is announced, concluded and checked"
    )
    written_out: bool = Field(
        False, description="hard calculations are written out digit by digit where they stand"
    )
    two_digits: bool = Field(False, description=TWO_DIGITS)
    unlike: tuple[Path, ...] = Field(
        (), description="folders of generated problems: ask for no story that is told there"
    )

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not 2 <= self.steps[0] <= self.steps[1] <= 8:
            raise ValueError(f"steps {list(self.steps)}: want fewest and most within 2..8")
        if self.threads > 1 and self.trace != "brief":
            raise ValueError(f"trace {self.trace!r} with {self.threads} threads: want 'brief'")
        if not all(1 <= count <= self.threads for count in self.asked):
            raise ValueError(f"asked {list(self.asked)}: want numbers within 1..{self.threads}")
        if self.thorough and (self.interleaved or self.threads == 1):
            raise ValueError("thorough: wants interleaved: false and two threads or more")
        if self.two_digits and not self.written_out:
            raise ValueError("two_digits: wants written_out: true")
        return self


class ReasoningSource(ProblemSource):
    """Long reasoning that takes things back, told by our generator, with gold labels."""

    kind: Literal["reasoning"] = "reasoning"
    size: int = Field(gt=0, description="problems to make")
    seed: Seed = Field(0, description="seed; problem i does not depend on size")
    kinds: tuple[str, ...] | None = Field(None, description="only these; all if empty")
    heldout: tuple[str, ...] = Field((), description="kinds that go into heldout_families")
    length: tuple[int, int] = Field(
        (300, 3000), description="fewest and most words, digits and signs per trace, about"
    )
    needed: tuple[float, float] = Field(
        (0.08, 0.28), description="least and most share of a trace that the answer needs"
    )
    slips: Share = Field(0.6, description="most likely share of facts that are first got wrong")
    late: Share = Field(0.55, description="share of those that are noticed only later")
    moves: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict,
        description="weights of what is told between facts, where they differ from the defaults",
    )

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if not 50 <= self.length[0] <= self.length[1]:
            raise ValueError(f"length {list(self.length)}: want fewest and most, at least 50")
        if not 0 < self.needed[0] <= self.needed[1] <= 0.9:
            raise ValueError(f"needed {list(self.needed)}: want least and most within 0..0.9")
        return self


class DrillSource(ProblemSource):
    """Lists of calculations, no stories: arithmetic for a model that knows none."""

    kind: Literal["drill"] = "drill"
    size: int = Field(gt=0, description="lists to make")
    seed: Seed = Field(0, description="seed; list i does not depend on size")
    max_number: int = Field(100, ge=20, description="bound of every number that occurs")
    count: int = Field(24, ge=1, le=200, description="calculations per list")


class ArithmeticSource(ProblemSource):
    """Questions for bare arithmetic, in a sentence; solutions are written out digit by digit."""

    kind: Literal["arithmetic"] = "arithmetic"
    size: int = Field(gt=0, description="questions to make")
    seed: Seed = Field(0, description="seed; question i does not depend on size")
    kinds: tuple[str, ...] | None = Field(None, description="only these; all if empty")
    verbosity: Share = Field(0.5, description="share of solutions that say what they do")


class RelationsSource(ProblemSource):
    """Word problems of one to four relations, each told in many people's words."""

    kind: Literal["relations"] = "relations"
    size: int = Field(gt=0, description="problems to make")
    seed: Seed = Field(0, description="seed; problem i does not depend on size")
    scenes: tuple[str, ...] | None = Field(None, description="only these; all if empty")
    weights: tuple[Share, Share, Share, Share] = Field(
        (0.3, 0.35, 0.25, 0.1), description="how often one, two, three and four steps are wanted"
    )
    verbosity: Share = Field(0.5, description="share of solutions that say what they do")
    thorough: Share = Field(0.5, description="share of those that say and check everything")
    two_digits: bool = Field(False, description=TWO_DIGITS)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.weights):
            raise ValueError("weights: want one above 0")
        return self


class EverydaySource(ProblemSource):
    """Ordinary requests without a right answer, for the base model's own replies."""

    kind: Literal["everyday"] = "everyday"
    size: int = Field(gt=0, description="different requests to make")
    seed: Seed = Field(0, description="seed of the draw")


AnySource = Annotated[
    Gsm8kSource
    | MathSource
    | AmcSource
    | JsonlSource
    | HubSource
    | GsmSymbolicSource
    | GeneratorSource
    | ReasoningSource
    | DrillSource
    | ArithmeticSource
    | RelationsSource
    | EverydaySource,
    Field(discriminator="kind"),
]


class TestFile(Section):
    """A file whose questions training must not see."""

    __test__: ClassVar[bool] = False

    name: str = Field(description="name in the report")
    path: Path = Field(description="file: JSONL, JSON, CSV, TSV or Parquet")
    field: Key = Field("question", description="key of the question, such as problem")


class Contamination(Section):
    """How problems are checked against test files."""

    against: tuple[TestFile, ...] = Field((), description="test files to check against")
    ngram: int = Field(8, ge=2, description="words per n-gram")
    threshold: Share = Field(0.5, gt=0.0, description="share of n-grams that marks a problem")
    reworded: Share | None = Field(
        0.75,
        gt=0.0,
        description="share of its words that marks a problem as a test question with other names, "
        "numbers, pronouns or nouns; null: don't look",
    )
    mask_numbers: bool = Field(True, description="treat all numbers alike, to find templates")
    templates: bool = Field(True, description="also use the hand-checked gsm_symbolic list")
    action: Literal["drop", "mark"] = Field("drop", description="leave out, or only mark in meta")

    @field_validator("against")
    @classmethod
    def _told_apart(cls, against: tuple[TestFile, ...]) -> tuple[TestFile, ...]:
        names = [file.name for file in against]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two test files are named {twice[0]!r}; want a name for each")
        return against


class Splits(Section):
    """Shares of the rows that no source or held-out family has placed already."""

    seed: Seed = Field(0, description="seed of the split; a row's split depends on its id alone")
    dev: Share = Field(0.05, description="share for choices during training")
    test: Share = Field(0.0, description="share for reports")

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if self.dev + self.test > 1.0:
            raise ValueError("dev and test add up to more than 1")
        return self


class ProblemsConfig(StageConfig):
    """Settings of the stage ``problems``."""

    makes_rows: ClassVar[bool] = True
    runtime: ClassVar[frozenset[str]] = frozenset({"out"})

    sources: tuple[AnySource, ...] = Field(min_length=1, description="what to read, in this order")
    contamination: Contamination = Field(
        default_factory=Contamination, description="check against test files"
    )
    splits: Splits = Field(default_factory=Splits, description="train, dev and test")
    shuffled: bool = Field(
        False,
        description="in an order drawn by splits.seed, so that the first problems, which a limit "
        "of later stages takes, are any; else in the sources' order",
    )
    conflicts: Literal["refuse", "first", "drop"] = Field(
        "refuse",
        description="a question with two different golds: an error, keep its first row, or none",
    )
