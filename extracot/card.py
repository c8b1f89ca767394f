"""The budget card: the measured levels of a model, in a file of its own or beside its weights.

A checkpoint that was trained for budgets has levels with a control token; of any other model the
levels are what was measured of it (``extracot calibrate``), each kept to by a cap or an effort.
Schema, load, save and the check against a tokenizer. Knows nothing of requests: which level a
ratio is served by is the server's to decide.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from extracot.errors import CardError
from extracot.figures import BaselineCard, CardModel, ReplySummary, wrong
from extracot.files import write_atomic
from extracot.level_card import LevelCard as LevelCard
from extracot.level_card import Word
from extracot.prompt import Tokenizer
from extracot.sketch import PromptSketch

CARD_FILENAME = "budget_card.json"
CARD_VERSION = 1
"""The major version written and read here; a card of another one is refused."""
PROMPT_FORMAT = 1
"""Version of what :mod:`extracot.prompt` renders; a checkpoint is bound to the one it learned."""

BUDGET_WORDS = frozenset({"auto", "native", "none", "cap"})
"""What no measured level can be called."""
_Question = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"\S")]


class Provenance(CardModel):
    """Where a checkpoint comes from."""

    stages: list[str] = Field(default_factory=list)
    config_hashes: dict[str, str] = Field(default_factory=dict)
    git_revision: str | None = None


class BudgetCard(CardModel):
    """The whole card. See :meth:`load`, :meth:`save` and :meth:`check_tokenizer`."""

    version: int = CARD_VERSION
    prompt_format: int = PROMPT_FORMAT
    tokenizer_hash: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    base_model: str
    model: str | None = None
    """The model's name: a trained one is served by it unless a setting says another; where levels
    have no token it must be the served one's, whose figures these are."""
    system_prompt: str | None = None
    instruction: str
    domain: Annotated[str, StringConstraints(min_length=1, max_length=400)] | None = None
    """What the checkpoint has learnt, where that is little: in words, after "It knows"."""
    examples: Annotated[list[_Question], Field(max_length=20)] = Field(default_factory=list)
    """Questions that it can be expected to answer; the first is shown first."""
    think_start: Word = "<think>"
    think_end: Word = "</think>"
    sampling: dict[str, Any] = Field(default_factory=dict)
    levels: Annotated[list[LevelCard], Field(min_length=2, max_length=50)]
    policy: LevelCard | None = None
    baseline: BaselineCard | None = None
    prompts: PromptSketch | None = None
    """What the problems look like that the figures are of."""
    native: ReplySummary | None = None
    none: ReplySummary | None = None
    """What was measured of replies without a budget, and of those that were not to reason."""
    provenance: Provenance = Provenance()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.version != CARD_VERSION:
            raise wrong("version", f"{self.version}: only {CARD_VERSION} is supported")
        if self.is_trained:
            self._check_trained()
        else:
            self._check_measured()
        if self.policy is not None and self.policy.ratio is not None:
            raise wrong("policy.ratio", "must be null")
        if self.think_start == self.think_end:
            raise wrong("think_end", "must differ from think_start")
        for key in ("name", "token", "token_id", "effort"):
            seen: set[object] = set()
            for field, level in self._named():
                if (value := getattr(level, key)) in seen:
                    raise wrong(f"{field}.{key}", f"{value!r} is there before, it must be unique")
                seen |= {value} - {None}
        names = {level.name for level in self.levels}
        for field, level in self._named():
            if level.dominated_by not in {None, "none", *names} - {level.name}:
                why = f"{level.dominated_by!r} is no other level, nor none"
                raise wrong(f"{field}.dominated_by", why)
        return self

    def _check_trained(self) -> None:
        """Levels of a checkpoint that was trained for them: all have a token, ratios ascend."""
        for index, level in enumerate(self.levels):
            below = self.levels[index - 1].ratio if index else 0.0
            if level.enforced_by != "token":
                raise wrong(f"levels[{index}].enforced_by", "levels before it have a token")
            if level.ratio is None or below is None or level.ratio <= below:
                raise wrong(f"levels[{index}].ratio", "each level needs one, and they must ascend")
        if self.policy is not None and self.policy.enforced_by != "token":
            raise wrong("policy.enforced_by", "a policy has a token")

    def _check_measured(self) -> None:
        """Levels of any other model: none has a token; caps need a baseline to be a share of."""
        for index, level in enumerate(self.levels):
            if level.enforced_by == "token":
                raise wrong(f"levels[{index}].enforced_by", "levels before it have no token")
            if level.name in BUDGET_WORDS:
                raise wrong(f"levels[{index}].name", f"{level.name!r} is a budget of its own")
        if self.policy is not None:
            raise wrong("policy", "must be null where levels have no token")
        if self.model is None:
            raise wrong("model", "required where levels have no token")
        bins = self.baseline.native if self.baseline is not None else []
        if not bins or bins[-1].max_prompt_tokens is not None:
            why = "required where levels have no token; the last bin has max_prompt_tokens null"
            raise wrong("baseline.native", why)

    def _named(self) -> Iterator[tuple[str, LevelCard]]:
        """Every level and the policy, with the name of its place."""
        for index, level in enumerate(self.levels):
            yield f"levels[{index}]", level
        if self.policy is not None:
            yield "policy", self.policy

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a card from its file, or from the checkpoint folder that holds it.

        Raises :class:`CardError`, in one line that names the file and the field.
        """
        file = Path(path)
        if file.is_dir():
            file = file / CARD_FILENAME

        def refuse(constant: str) -> NoReturn:
            raise CardError(f"{constant} is not a number a card may hold", path=file)

        def finite(number: str) -> float:
            value = float(number)
            return value if math.isfinite(value) else refuse(number)

        try:
            text = file.read_text(encoding="utf-8")
            data = json.loads(text, parse_constant=refuse, parse_float=finite)
        except FileNotFoundError:
            raise CardError("no such file", path=file) from None
        except OSError as error:
            raise CardError(f"cannot be read ({error.strerror})", path=file) from error
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
            raise CardError(f"not JSON ({error})", path=file) from error
        _check_version(data, file)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _card_error(error, file) from None

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the card into a checkpoint folder, whole or not at all; returns its file.

        Raises :class:`CardError` if an unknown key or ``sampling`` holds what is not JSON.
        """
        return self.save_as(Path(folder) / CARD_FILENAME)

    def save_as(self, file: Path) -> Path:
        """The same, into a file of any name."""
        try:
            text = json.dumps(self._as_written(), indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise CardError(f"holds what JSON cannot say: {error}", path=file) from error
        write_atomic(file, text)
        return file

    def _as_written(self) -> dict[str, Any]:
        """As JSON values; what only cards without tokens have is left out where it is not set."""
        data = self.model_dump()
        of_level = ("token", "token_id", "effort", "max_reasoning_tokens", "dominated_by")
        places: list[tuple[dict[str, Any], tuple[str, ...]]] = [(data, ("model", "native", "none"))]
        for level in (*data["levels"], *filter(None, [data["policy"]])):
            unset = of_level if level["enforced_by"] != "token" else (*of_level, "enforced_by")
            places.append((level, unset))
        for place, names in places:
            for name in names:
                if place[name] is None or place[name] == "token":
                    del place[name]
        return data

    @property
    def is_trained(self) -> bool:
        """The levels have control tokens, which the checkpoint was trained with."""
        return self.levels[0].enforced_by == "token"

    @property
    def is_calibrated(self) -> bool:
        """Every level has a realised ratio."""
        return all(level.realised is not None for level in self.levels)

    def level(self, name: str) -> LevelCard:
        """The level of that name; raises :class:`CardError` that lists the names there are."""
        levels = {level.name: level for level in self.levels}
        if name not in levels:
            why = f"there is no level {name!r}, only {', '.join(levels)}"
            raise CardError(why, field="levels")
        return levels[name]

    def check_increasing(self) -> None:
        """Raise :class:`CardError` unless every level has a realised ratio and they increase."""
        before = 0.0
        for index, level in enumerate(self.levels):
            field = f"levels[{index}].realised"
            if level.realised is None:
                raise CardError(f"level {level.name} has no realised ratio", field=field)
            if level.realised.mean <= before:
                what = f"{level.realised.mean:g} for level {level.name} is not above the "
                raise CardError(f"{what}{before:g} of the level below it", field=f"{field}.mean")
            before = level.realised.mean

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise :class:`CardError`, in one line, if the card does not fit this tokenizer.

        Checked: the prompt format, that each control token is one id and the one the card says,
        that each think tag is one id (where levels have tokens), and last, because it says least,
        the tokenizer's hash.
        """
        if self.prompt_format != PROMPT_FORMAT:
            why = f"is not the format this release renders, which is {PROMPT_FORMAT}"
            raise CardError(f"{self.prompt_format} {why}", field="prompt_format")
        for field, level in self._named() if self.is_trained else ():
            token, token_id = level.control()
            found = _single_id(tokenizer, token, f"{field}.token")
            if found != token_id:
                raise CardError(
                    f"{token} is id {found} in the tokenizer, the card says {token_id}",
                    field=f"{field}.token_id",
                )
        if self.is_trained:
            _single_id(tokenizer, self.think_start, "think_start")
            _single_id(tokenizer, self.think_end, "think_end")
        if (found_hash := tokenizer_hash(tokenizer)) != self.tokenizer_hash:
            raise CardError(
                f"the tokenizer is {found_hash}, the card was made for {self.tokenizer_hash}",
                field="tokenizer_hash",
            )

    def check_model(self, *names: str) -> None:
        """Raise :class:`CardError` for a card that was measured on a model of none of these names.

        The vocabulary does not tell the models of a family apart.
        """
        if not self.is_trained and self.model not in names:
            why = f"the card is of the model {self.model}, and this is {names[0]}"
            raise CardError(why, field="model")


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """``sha256:<hex>`` over every token and its id, added tokens included, in sorted order."""
    vocab = {**tokenizer.get_vocab(), **tokenizer.get_added_vocab()}
    # ASCII-escaped JSON, because a vocabulary may hold lone surrogates, which UTF-8 has no way of.
    text = json.dumps(sorted(vocab.items()), separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"


def _single_id(tokenizer: Tokenizer, token: str, field: str) -> int:
    ids = tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1:
        raise CardError(f"{token} is {len(ids)} ids in the tokenizer, it must be one", field=field)
    return ids[0]


def _card_error(error: ValidationError, file: Path) -> CardError:
    """One line for the first thing that is wrong, and how many more there are."""
    first, *others = error.errors(include_url=False, include_input=False)
    field, message, context = "", first["msg"], first.get("ctx", {})
    for key in first["loc"]:  # ("levels", 0, "token") -> levels[0].token
        field += f"[{key}]" if isinstance(key, int) else f".{key}" if field else key
    if first["type"] == "card":
        inner = context["field"]
        field += inner if inner.startswith("[") or not field else f".{inner}"
        message = context["why"]
    if others:
        message += f" (and {len(others)} more)"
    return CardError(message, field=field or None, path=file)


def _check_version(data: object, file: Path) -> None:
    """Look at the version before anything else: what a later one means is not known here.

    The model has a default for it, for cards made in code; a file has to say it.
    """
    if not isinstance(data, dict):
        raise CardError("a card is a JSON object", path=file)
    for key, known in (("version", CARD_VERSION), ("prompt_format", None)):
        if key not in data:
            raise CardError("required, an integer", field=key, path=file)
        value = data[key]
        if type(value) is not int or known not in (None, value):
            only = "must be an integer" if known is None else f"only {known} is supported"
            raise CardError(f"{value!r}: {only}", field=key, path=file)
