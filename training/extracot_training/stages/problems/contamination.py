"""Leaves out duplicate questions and those that are also in a test file.

Whether a problem is in a test file (the same question, the same words, the same template) is found
by four tests, strictest first: equal normal forms; the share of the problem's n-grams that occur
in one single test question (numbers masked if asked for, so that a template with other numbers is
found); the share of words that are left where names, pronouns or nouns were exchanged
(:mod:`.rewording`); and the hand-checked list of ``gsm_symbolic`` functions that were made from
GSM8K test.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Literal

from extracot.answers import same_answer
from extracot_training.config.problems import Contamination, TestFile
from extracot_training.errors import StageError
from extracot_training.math_text.normalise import ngrams, normal_form, words
from extracot_training.pipeline.records import Problem, Split
from extracot_training.stages.problems.rewording import Rewordings
from extracot_training.stages.problems.sources.gsm_symbolic import family_name
from extracot_training.stages.problems.sources.rows import read_rows

Conflicts = Literal["refuse", "first", "drop"]
Kind = Literal["exact", "ngram", "reworded", "template"]
TEMPLATES_FILE = "gsm_symbolic_templates.json"
# When a question is in several splits, the copy that must not be trained on is the one that stays.
_PRECEDENCE: dict[Split, int] = {"test": 0, "heldout_families": 1, "dev": 2, "train": 3}


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """``rows`` in their old order. ``dropped`` counts per source the copies left out;
    ``conflicts`` those among them whose gold differs from the kept copy's; ``same_template`` the
    kept questions that equal an earlier one when numbers are masked (these are not dropped)."""

    rows: list[Problem]
    dropped: Counter[str]
    conflicts: list[tuple[str, str]]
    same_template: int


def deduplicate(rows: Sequence[Problem], conflicting: Conflicts = "first") -> Deduplicated:
    """Keep one row per question (compared in normal form): the one in the stricter split, else the
    first. ``conflicts`` holds (kept id, dropped id) where the two have different golds; questions
    with such a pair are an error or all dropped, as ``conflicting`` says.

    Raises :class:`StageError` that names both rows.
    """
    kept: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    conflicts = []
    refuted: set[str] = set()
    for index in sorted(range(len(rows)), key=lambda i: _PRECEDENCE[rows[i].split]):
        row, form = rows[index], normal_form(rows[index].question)
        first = kept.setdefault(form, index)
        if first == index:
            continue
        dropped[row.source] += 1
        if not same_answer(rows[first].answer, row.answer):
            if conflicting == "refuse":
                raise StageError(_conflict(rows[first], row))
            conflicts.append((rows[first].id, row.id))
            refuted.add(form)
    if conflicting == "drop":
        for form in refuted:
            dropped[rows[kept.pop(form)].source] += 1
    staying = [rows[index] for index in sorted(kept.values())]
    templates = {tuple(words(row.question, mask_numbers=True)) for row in staying}
    return Deduplicated(staying, dropped, conflicts, len(staying) - len(templates))


def _conflict(first: Problem, second: Problem) -> str:
    places = (f"{one.source} {one.meta.get('row', one.id)}" for one in (first, second))
    return (
        f"rows {' and '.join(places)} ask the same and have the golds {first.answer[:40]!r} and "
        f"{second.answer[:40]!r}; correct one, or set conflicts to first or drop"
    )


@dataclass(frozen=True, slots=True)
class Hit:
    """Problem and test row (counted from 1) that match; ``share`` of n-grams, or of words
    that are left if reworded; 1.0 if exact."""

    test: str
    row: int
    kind: Kind
    share: float


class TestIndex:
    """One test file, ready to be asked."""

    __test__ = False

    def __init__(
        self,
        name: str,
        questions: Sequence[tuple[int, str]],
        settings: Contamination,
        templates: Mapping[str, str],
    ) -> None:
        """``questions`` are (row number, text); ``templates`` maps families to question hashes."""
        self.name = name
        self.size = len(questions)
        self._settings = settings
        self._exact: dict[str, int] = {}
        self._grams: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._rewordings = Rewordings(same_numbers=not settings.mask_numbers)
        by_hash: dict[str, int] = {}
        for row, text in questions:
            self._exact.setdefault(normal_form(text), row)
            by_hash[question_hash(text)] = row
            if settings.reworded is not None:
                self._rewordings.add(row, text)
            for gram in self._ngrams(text):
                self._grams[gram].append(row)
        self._families: dict[str | None, int] = {
            family: by_hash[digest] for family, digest in templates.items() if digest in by_hash
        }

    @classmethod
    def read(
        cls, file: TestFile, settings: Contamination, templates: Mapping[str, str]
    ) -> TestIndex:
        """Index a file of rows. Raises :class:`RowError` with file, line and field, and
        :class:`StageError` for a file without any, by which everything would be clean."""
        questions = [(row.line, row.text(file.field)) for row in read_rows(file.path)]
        if not questions:
            raise StageError(f"contamination.against ({file.name}, {file.path}): no rows in it")
        return cls(file.name, questions, settings, templates)

    def hits(self, problem: Problem) -> list[Hit]:
        """All tests that find the problem here, each with its best matching row."""
        found = []
        if (row := self._exact.get(normal_form(problem.question))) is not None:
            found.append(Hit(self.name, row, "exact", 1.0))
        best, share = self._closest(problem.question)
        if best is not None and share >= self._settings.threshold:
            found.append(Hit(self.name, best, "ngram", round(share, 4)))
        elif not found and self._settings.reworded is not None:
            near, left = self._rewordings.closest(problem.question)
            if near is not None and left >= self._settings.reworded:
                found.append(Hit(self.name, near, "reworded", round(left, 4)))
        if (row := self._families.get(problem.family)) is not None:
            share_of_origin = 1.0 if found and found[0].kind == "exact" else round(share, 4)
            found.append(Hit(self.name, row, "template", share_of_origin))
        return found

    def _closest(self, question: str) -> tuple[int | None, float]:
        grams = self._ngrams(question)
        counts = Counter(row for gram in grams for row in self._grams.get(gram, ()))
        if not counts:
            return None, 0.0
        row, shared = max(counts.items(), key=lambda item: (item[1], -item[0]))
        return row, shared / len(grams)

    def _ngrams(self, text: str) -> set[tuple[str, ...]]:
        settings = self._settings
        return ngrams(words(text, mask_numbers=settings.mask_numbers), settings.ngram)


@dataclass(frozen=True, slots=True)
class Checked:
    """``rows`` after the check; per test file, problems hit by kind and test rows that were hit;
    per source, problems left out or only marked. ``alike`` has the share of a source's problems
    that are only like a test question (n-grams, rewording) while numbers are masked."""

    rows: list[Problem]
    counts: dict[str, Counter[str]]
    dropped: Counter[str]
    marked: Counter[str]
    test_rows: dict[str, list[int]]
    sizes: dict[str, int]
    alike: dict[str, float]


def check(problems: Iterable[Problem], settings: Contamination) -> Checked:
    """Check all problems that may be trained or chosen on; rows of split ``test`` pass.

    With ``action: mark`` (and always for what stays) the hits are in ``meta.contamination``.
    """
    templates = gsm_symbolic_origins() if settings.templates else {}
    indexes = [TestIndex.read(file, settings, templates) for file in settings.against]
    counts = {index.name: Counter[str]() for index in indexes}
    touched: dict[str, set[int]] = {index.name: set() for index in indexes}
    dropped: Counter[str] = Counter()
    marked: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    alike: Counter[str] = Counter()
    rows = []
    for problem in problems:
        hits = [hit for index in indexes for hit in index.hits(problem)]
        asked[problem.source] += problem.split != "test"
        if problem.split == "test" or not hits:
            rows.append(problem)
            continue
        for hit in hits:
            counts[hit.test][hit.kind] += 1
            touched[hit.test].add(hit.row)
        for name in {hit.test for hit in hits}:
            counts[name]["problems"] += 1
        alike[problem.source] += settings.mask_numbers and all(
            hit.kind in ("ngram", "reworded") for hit in hits
        )
        if settings.action == "drop":
            dropped[problem.source] += 1
            continue
        marked[problem.source] += 1
        meta = {**problem.meta, "contamination": [asdict(hit) for hit in hits]}
        rows.append(problem.model_copy(update={"meta": meta}))
    test_rows = {name: sorted(found) for name, found in touched.items()}
    sizes = {index.name: index.size for index in indexes}
    shares = {source: count / asked[source] for source, count in alike.items() if count}
    return Checked(rows, counts, dropped, marked, test_rows, sizes, shares)


def question_hash(question: str) -> str:
    """First 16 hex digits of the sha256 of the normal form, as in the list of templates."""
    return hashlib.sha256(normal_form(question).encode("utf-8")).hexdigest()[:16]


def gsm_symbolic_origins() -> dict[str, str]:
    """``gsm_symbolic/17`` -> hash of the GSM8K test question that template was made from."""
    text = files("extracot_training").joinpath("data", TEMPLATES_FILE).read_text("utf-8")
    entries = json.loads(text)["templates"]
    return {family_name(entry["generator"]): entry["question_sha256"] for entry in entries}
