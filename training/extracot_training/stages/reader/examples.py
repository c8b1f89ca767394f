"""The reader's examples: token ids, and at which positions it has something to learn.

Questions are shown as the reader's card says: without their numbers (with them a reader soon works
the answer out by itself, half of all problems when tried, and tells little about traces), and where
there are several stories only the sentences that ask, which are shorter to read.

It learns to write the last equation with its result as the answer; every equation's result right
behind its ``=`` (also a hidden one); and, at each mark that hides the answer, the answer itself.
The last two teach it arithmetic and where to look, many times per trace. Example ``i`` of a seed is
always the same, so training can be cut and go on. Knows no model.

Traces are corrupted first: the reader must read what any compressor left over. Neutral between
compressors on purpose: whole atoms, single words, head and tail, equations whole or in pieces,
everything, nothing.

The tokenizer knows whole words, whole numbers, single signs; lower case. A whole number is one
token so that arithmetic under a small cap is a table to learn, not an algorithm: that is what makes
a reader of a few million parameters possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from extracot_training.compression.answering import ReaderCard
from extracot_training.compression.final_answer import MARK, redact
from extracot_training.compression.segment import FORMULAS, Atom, join, segment
from extracot_training.synthetic import Generator, WordProblem

PAD, UNKNOWN, BEGIN, END, TRACE, ANSWER = (
    "<pad>", "<unk>", "<s>", "</s>", "<trace>", "<answer>",
)  # fmt: skip
SPECIAL = (PAD, UNKNOWN, BEGIN, END, TRACE, ANSWER)
_PIECE = r"\[\?\]|\d+|\\?[a-z]+|[^\sa-z0-9]"
PROMPT = f"{BEGIN}{{question}}{TRACE}{{trace}}{ANSWER}"
KINDS = ("full", "atoms", "words", "head_tail", "equations", "pieces", "empty")
WEIGHTS = (12, 18, 18, 10, 18, 18, 6)
EQUATIONS_PER_ROW = 12
ANSWER_WEIGHT = 2.0  # against 1 for any other number
# Problems to corrupt again and again, each time differently; their atoms are kept in memory.
POOL = 4000


@dataclass(frozen=True, slots=True)
class Example:
    """``targets``: (position, id that follows it, weight)."""

    ids: tuple[int, ...]
    targets: tuple[tuple[int, int, float], ...]


class ExampleMaker:
    """Makes examples for one tokenizer."""

    def __init__(
        self, tokenizer: Any, generator: Generator, card: ReaderCard, *, redact_share: float
    ) -> None:
        self._tokenizer = tokenizer
        self._card = card
        self._generator = generator
        self._redact = redact_share
        self._pool: dict[int, tuple[WordProblem, Sequence[Atom]]] = {}
        self._equals = tokenizer.convert_tokens_to_ids("=")
        self._mark = tokenizer.convert_tokens_to_ids(MARK)
        self._numbers = {
            tokenizer.convert_tokens_to_ids(str(n)) for n in range(generator.max_number + 1)
        }

    def story(self, index: int) -> Example:
        """Example ``index``: a generated problem with its trace corrupted in its own way."""
        rng = Random(f"reader:{index}")
        problem, atoms = self._problem(index % POOL)
        text, _ = corrupt(problem.trace, rng, atoms)
        if rng.random() < self._redact:
            text = redact(text, str(problem.answer))
        return self.example(problem, text)

    def example(self, problem: WordProblem, text: str) -> Example:
        """Question, this text and the last equation, whose result is the answer."""
        shown = self._card.shown(problem.question)
        prompt = self._encode(self._card.prompt.format(question=shown, trace=text))
        worked = self._encode(problem.terse.splitlines()[-1])
        answer = worked[-1]
        ids = [*prompt, *worked, self._tokenizer.eos_token_id]
        targets = [(at, ids[at + 1], 1.0) for at in range(len(prompt) - 1, len(ids) - 3)]
        targets += [(len(ids) - 3, answer, ANSWER_WEIGHT), (len(ids) - 2, ids[-1], 0.1)]
        for at in range(len(prompt) - 1):
            if ids[at] == self._equals:
                follows = answer if ids[at + 1] == self._mark else ids[at + 1]
                if follows in self._numbers:
                    targets.append((at, follows, 1.0))
            elif ids[at] == self._mark:
                targets.append((at, answer, 0.5))
        return Example(tuple(ids), tuple(targets))

    def arithmetic(self, index: int) -> Example:
        """A row of bare equations, all under the cap."""
        rng = Random(f"arithmetic:{index}")
        cap = self._generator.max_number
        text = " ".join(equation(rng, cap) for _ in range(EQUATIONS_PER_ROW))
        ids = [self._tokenizer.bos_token_id, *self._encode(text)]
        targets = [(at, ids[at + 1], 1.0) for at in range(len(ids) - 1) if ids[at] == self._equals]
        return Example(tuple(ids), tuple(targets))

    def _problem(self, index: int) -> tuple[WordProblem, Sequence[Atom]]:
        if index not in self._pool:
            problem = self._generator.problem(index)
            self._pool[index] = (problem, segment(problem.trace))
        return self._pool[index]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def equation(rng: Random, cap: int) -> str:
    """``3 × 4 = 12.``: an equation in plain signs or LaTeX, all numbers in 0..cap."""
    kind = rng.choice("++--×÷")
    if kind in "×÷":
        left = rng.randint(1, max(1, int(cap**0.5) * 2))
        right = rng.randint(1, max(1, cap // left))
        result = left * right
        if rng.random() < 0.5:
            left, right = right, left
        if kind == "÷":
            left, result = result, left
    else:
        left = rng.randint(0, cap)
        right = rng.randint(0, cap - left if kind == "+" else left)
        result = left + right if kind == "+" else left - right
    sign = {"×": ("×", "*", "\\times"), "÷": ("÷", "/", "\\div")}.get(kind, (kind,) * 3)
    return f"{left} {rng.choice(sign)} {right} = {result}."


def corrupt(text: str, rng: Random, atoms: Sequence[Atom] | None = None) -> tuple[str, str]:
    """``(what is left, kind of corruption)``; ``atoms`` are the text's, if cut already."""
    kind = rng.choices(KINDS, WEIGHTS)[0]
    ratio = rng.uniform(0.02, 0.3) if rng.random() < 0.5 else rng.uniform(0.3, 0.95)
    if kind == "full":
        return text, kind
    if kind == "empty":
        return "", kind
    if kind == "words":
        return " ".join(word for word in text.split() if rng.random() < ratio), kind
    if kind == "head_tail":
        words = text.split()
        head = rng.randint(0, int(len(words) * ratio))
        tail = int(len(words) * ratio) - head
        return " ".join(words[:head] + words[len(words) - tail :]), kind
    atoms = segment(text) if atoms is None else atoms
    if kind == "atoms":
        return join(atoms, [i for i in range(len(atoms)) if rng.random() < ratio]), kind
    # Mostly mathematics survives, whole ("equations") or word by word ("pieces").
    share, rest = rng.uniform(0.4, 1.0), rng.uniform(0.0, 0.25)
    chances = [share if atom.kind in FORMULAS else rest for atom in atoms]
    if kind == "equations":
        return join(atoms, [i for i, chance in enumerate(chances) if rng.random() < chance]), kind
    words = []
    for atom, chance in zip(atoms, chances, strict=True):
        words += [word for word in atom.body.split() if rng.random() < chance]
    return " ".join(words), kind


def build_tokenizer(texts: Iterable[str], max_number: int) -> Any:
    """A Hugging Face tokenizer over the words of ``texts`` and the numbers 0..``max_number``."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {piece for text in texts for piece in re.findall(_PIECE, text.lower())}
    words = sorted(piece for piece in pieces if not piece.isdigit())
    listed = [*SPECIAL, *(str(number) for number in range(max_number + 1)), *words]
    if "[?]" not in pieces:
        listed.append("[?]")
    vocabulary = {piece: index for index, piece in enumerate(listed)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_PIECE), "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        extra_special_tokens=[TRACE, ANSWER],
        clean_up_tokenization_spaces=False,
    )
