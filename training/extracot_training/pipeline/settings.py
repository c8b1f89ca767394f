"""The base of every stage's configuration, and what several of them share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Field, model_validator

from extracot_training.pipeline.records import Split

# What every generator of random numbers takes that is used here (numpy's are the narrowest).
SEEDS = 2**32
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]


def _told_once(splits: tuple[Split, ...]) -> tuple[Split, ...]:
    twice = next((one for one in splits if splits.count(one) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is there twice")
    return splits


# Whose problems a stage takes.
SplitNames = Annotated[tuple[Split, ...], Field(min_length=1), AfterValidator(_told_once)]


@dataclass(frozen=True, slots=True)
class Flag:
    """A truth value where a number is wanted: no number for pydantic, to which ``True`` is 1."""

    given: bool

    def __str__(self) -> str:
        return str(self.given).lower()


class Section(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """A part of a configuration: unknown keys are errors, and so are truth values for numbers."""

    @model_validator(mode="before")
    @classmethod
    def _no_flags(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        return {
            key: _without_flags(value, fields[key].annotation) if key in fields else value
            for key, value in given.items()
        }


def _without_flags(value: Any, annotation: Any) -> Any:
    """``value`` with :class:`Flag` for truth values where a field of this type holds numbers. What
    lies in models below is theirs to look at."""
    if not isinstance(value, bool | list | tuple | dict):
        return value
    found = set(leaves(annotation))
    if found & {bool, Any, object} or not found & {int, float}:
        return value
    nested = any(isinstance(one, type) and issubclass(one, BaseModel) for one in found)
    return value if nested and not isinstance(value, bool) else _flagged(value)


def leaves(annotation: Any) -> Iterator[Any]:
    """The types that a type is made of; of a ``Literal`` its values."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif not (parts := get_args(annotation)):
        yield annotation
    else:
        for part in parts[:1] if hasattr(annotation, "__metadata__") else parts:
            yield from leaves(part)


def _flagged(value: Any) -> Any:
    match value:
        case bool():
            return Flag(value)
        case dict():
            return {key: _flagged(one) for key, one in value.items()}
        case list() | tuple():
            return [_flagged(one) for one in value]
    return value


class BootstrapSettings(Section):
    """How intervals are made, for stages with intervals in their reports."""

    resamples: int = Field(2000, ge=100, description="bootstrap resamples for 95% intervals")
    seed: Seed = Field(0, description="seed of the bootstrap")

    @property
    def bootstrap(self) -> dict[str, int]:
        """As arguments of :mod:`extracot_training.pipeline.statistics`."""
        return {"resamples": self.resamples, "seed": self.seed}


class DifferenceSettings(Section):
    """How a checkpoint is told as its difference from a base that a package brings."""

    base: Literal["bundled:smollm2"] = Field(
        "bundled:smollm2", description="what the model was trained from, with all its files at hand"
    )
    form: Literal["bits", "low_rank"] = Field(
        "bits", description="of changed matrices: numbers of a few bits, or factors of low rank"
    )
    bits: int = Field(5, ge=2, le=8, description="form bits: bits of a number")
    group: int = Field(
        64, ge=8, le=4096, multiple_of=8, description="form bits: values that share a scale"
    )
    rank: int = Field(48, ge=1, le=1024, description="form low_rank: rank of the factors")


class StageConfig(Section):
    """A whole stage's configuration.

    ``runtime`` names the dotted settings that don't change what comes out (where things lie, how
    many at a time): those may differ when a run is resumed. Subclasses extend it. A stage that
    ``makes_rows`` has not finished where they are missing.
    """

    runtime: ClassVar[frozenset[str]] = frozenset({"input", "out"})
    makes_rows: ClassVar[bool] = False

    out: Path = Field(description="folder this stage fills")

    def fingerprint(self) -> dict[str, Any]:
        """The settings that decide the result, as plain JSON."""
        settings = self.model_dump(mode="json")
        for name in self.runtime:
            *parents, leaf = name.split(".")
            level: Any = settings
            for parent in parents:
                level = level.get(parent) if isinstance(level, dict) else None
            if isinstance(level, dict):
                level.pop(leaf, None)
        return settings
