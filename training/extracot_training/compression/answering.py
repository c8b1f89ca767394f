"""A frozen causal model that answers from a question and (part of) a trace.

Used wherever a text must be judged by what can be answered from it: the ``likelihood`` annotator
and the fidelity report. Batched; deterministic (greedy, evaluation mode). It does not know who
shortened the text or how.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from extracot.answers import extract_answer
from extracot_training.compression.final_answer import same_answer
from extracot_training.math_text.equations import numbers_in
from extracot_training.pipeline.files import write_atomic
from extracot_training.policy.pretrained import load_causal_lm, load_tokenizer, pad_id

CARD = "reader.json"
SEEN = "seen.txt"


class ReaderCard(BaseModel, extra="forbid", frozen=True):
    """How to ask a model. ``prompt`` has ``{question}`` and ``{trace}`` and ends where the answer
    begins. ``worked``: it answers with an equation whose result is the answer; a likelihood is
    then that of the answer behind the equation it writes. ``hide_numbers``: the question is shown
    without its numbers, so that nothing can be worked out but from the trace. ``sentences``: only
    this many of the question's last sentences are shown, those that ask (0: all)."""

    prompt: str = "Question: {question}\nNotes: {trace}\nThe final answer (a number only) is"
    max_new_tokens: int = 12
    worked: bool = False
    hide_numbers: bool = False
    sentences: int = 0

    def shown(self, question: str) -> str:
        """What of a question the reader gets to see."""
        if self.sentences:
            question = last_sentences(question, self.sentences)
        return without_numbers(question) if self.hide_numbers else question

    def save(self, folder: Path) -> None:
        write_atomic(folder / CARD, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def find(cls, name: str) -> ReaderCard:
        """The card in a model folder, else the default one."""
        path = Path(name) / CARD
        return cls.model_validate_json(path.read_bytes()) if path.is_file() else cls()


def without_numbers(question: str) -> str:
    """The question with ``#`` for each number in digits."""
    return re.sub(r"\d+(?:[.,]\d+)*", "#", question)


def last_sentences(text: str, count: int) -> str:
    """The last ``count`` sentences: cut at white space behind ``.``, ``!`` or ``?``."""
    return " ".join(re.split(r"(?<=[.!?])\s+", text.strip())[-count:])


def question_hash(question: str) -> str:
    """What ``seen.txt`` in a reader's folder holds, a line for each question it was trained on."""
    return hashlib.sha256(" ".join(question.split()).encode("utf-8")).hexdigest()[:16]


def questions_seen(name: str) -> frozenset[str]:
    """Hashes of the questions that a reader knows; empty for a reader that does not say."""
    path = Path(name) / SEEN
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


class Reader:
    """Answers and answer likelihoods. ``batch_tokens`` bounds a batch's padded size."""

    def __init__(
        self, model: Any, tokenizer: Any, card: ReaderCard, *, batch_tokens: int = 16_384
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._card = card
        self._batch_tokens = batch_tokens
        self._pad = pad_id(tokenizer)
        self._last: dict[tuple[int, ...], list[int]] = {}

    @classmethod
    def load(cls, name: str, *, device: str = "cpu", dtype: str = "float32") -> Reader:
        """From a folder, hub name or ``bundled:`` name. Raises ``PretrainedError``."""
        model = load_causal_lm(name, device=device, dtype=dtype)
        return cls(model, load_tokenizer(name), ReaderCard.find(name))

    def prompt(self, question: str, trace: str) -> str:
        # Not str.format on the texts: braces in LaTeX are text.
        head, _, rest = self._card.prompt.partition("{question}")
        middle, _, tail = rest.partition("{trace}")
        return f"{head}{self._card.shown(question)}{middle}{trace}{tail}"

    def right(
        self, questions: Sequence[str], traces: Sequence[str], golds: Sequence[str]
    ) -> list[bool]:
        """Whether the greedy answer to each is the gold one."""
        answers = self.answers(questions, traces)
        return [same_answer(a, g) for a, g in zip(answers, golds, strict=True)]

    def answers(self, questions: Sequence[str], traces: Sequence[str]) -> list[str]:
        """The greedy answers: what is boxed, else the first number, else the first line; of a
        worked answer the number behind the last ``=``."""
        written = self._written(self._prompts(questions, traces))
        texts = [self._tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        return [
            _answer_in(text.rpartition("=")[2] if self._card.worked else text) for text in texts
        ]

    @torch.inference_mode()
    def log_likelihoods(
        self, questions: Sequence[str], traces: Sequence[str], answers: Sequence[str]
    ) -> list[float]:
        """Natural-log probability of each answer's tokens, summed, given question and trace."""
        prompts = self._prompts(questions, traces)
        if self._card.worked:
            written = self._written(prompts)
            prompts = [p + self._up_to_equals(w) for p, w in zip(prompts, written, strict=True)]
        endings = [
            self._tokenizer.encode(f" {answer}", add_special_tokens=False) for answer in answers
        ]
        rows_ids = [p + e for p, e in zip(prompts, endings, strict=True)]
        scores = [0.0] * len(rows_ids)
        for rows in self._batches([len(ids) for ids in rows_ids]):
            ids, mask = self._padded([rows_ids[row] for row in rows], left=False)
            keep = max(ids.shape[1] - len(prompts[row]) + 1 for row in rows)
            logits = self._model(input_ids=ids, attention_mask=mask, logits_to_keep=keep).logits
            shift = ids.shape[1] - logits.shape[1]
            logs = torch.log_softmax(logits.float(), dim=-1)
            for place, row in enumerate(rows):
                for at, token in enumerate(endings[row], start=len(prompts[row])):
                    scores[row] += logs[place, at - 1 - shift, token].item()
        return scores

    @torch.inference_mode()
    def _written(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """The greedy continuation of each prompt, as ids. The last call's are remembered: answers
        and likelihoods are mostly wanted of the same texts."""
        found = {key: made for ids in prompts if (made := self._last.get(key := tuple(ids)))}
        missing = [ids for ids in prompts if tuple(ids) not in found]
        for rows in self._batches([len(ids) + self._card.max_new_tokens for ids in missing]):
            ids, mask = self._padded([missing[row] for row in rows], left=True)
            made = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=self._card.max_new_tokens,
                do_sample=False,
                pad_token_id=self._pad,
            )
            for place, row in enumerate(rows):
                found[tuple(missing[row])] = made[place, ids.shape[1] :].tolist()
        self._last = found
        return [found[tuple(ids)] for ids in prompts]

    def _padded(self, rows: Sequence[list[int]], *, left: bool) -> tuple[Tensor, Tensor]:
        """Ids and mask of one batch on the model's device."""
        ids = [torch.tensor(row, device=self._model.device) for row in rows]
        pad = partial(pad_sequence, batch_first=True, padding_side="left" if left else "right")
        return pad(ids, padding_value=self._pad), pad([torch.ones_like(row) for row in ids])

    def _up_to_equals(self, ids: list[int]) -> list[int]:
        """The equation up to its ``=``; all of it if it has none."""
        ends = (
            at for at in range(len(ids), 0, -1) if "=" in self._tokenizer.decode(ids[at - 1 : at])
        )
        return ids[: next(ends, len(ids))]

    def _prompts(self, questions: Sequence[str], traces: Sequence[str]) -> list[list[int]]:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        prompts = []
        for question, trace in zip(questions, traces, strict=True):
            ids = self._tokenizer.encode(self.prompt(question, trace), add_special_tokens=False)
            if limit and len(ids) + self._card.max_new_tokens > limit:
                # What does not fit is lost to any reader: the middle goes, question and end stay.
                room = limit - self._card.max_new_tokens
                ids = ids[: room // 2] + ids[len(ids) - (room - room // 2) :]
            prompts.append(ids or [self._pad])
        return prompts

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Rows grouped by length so that no batch exceeds ``batch_tokens`` when padded."""
        batch: list[int] = []
        for row in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batch and (len(batch) + 1) * lengths[row] > self._batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def _answer_in(text: str) -> str:
    boxed = extract_answer(text)
    if boxed is not None:
        return boxed
    numbers = numbers_in(text)
    if numbers:
        value = numbers[0]
        return str(value.numerator) if value.denominator == 1 else str(float(value))
    return text.strip().splitlines()[0].strip() if text.strip() else ""
