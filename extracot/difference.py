"""A checkpoint told as its difference from a base that everybody can get: the file's schema.

A *difference folder* is a checkpoint without its weights. In their place it has
``difference.safetensors``, what the tensors differ by, and ``difference.json``, described here.
Merged, each tensor of the checkpoint is computed in float32, step by step and in this order, so
that the result is the same bytes on every machine:

1. the base's tensor of that name, or zeros where it has none; rows that it lacks are zeros;
2. its steps, one after the other (:class:`Step`); a tensor without steps stays the base's;
3. rounded to ``dtype``, to the nearest and to even where two are as near.

The parts of a step are tensors of ``difference.safetensors`` called ``NAME/FORM/PART``. Knows the
names of bases; knows nothing of where they lie, nor how anything is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from extracot.errors import ExtracotError
from extracot.files import write_atomic

DIFFERENCE_FILENAME = "difference.json"
CHANGES_FILENAME = "difference.safetensors"
WEIGHTS_FILENAME = "model.safetensors"
"""What the merged weights are written to: one file, tensors in the order of their names."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Dtype = Literal["bfloat16", "float16", "float32"]
Form = Literal["whole", "rows", "low_rank", "bits"]


class DifferenceError(ExtracotError):
    """``difference.json`` is missing, malformed, or does not say what was found."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BaseIdentity(_Model):
    """What the difference is from: one file of a package, known by its bytes."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    requirement: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+$")]
    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")]
    sha256: Sha256


class Step(_Model):
    """One way in which a tensor differs.

    - ``whole``: it is the part ``values``, whatever the base has.
    - ``rows``: its rows of the part ``index`` are those of the part ``values``.
    - ``low_rank``: the product of the parts ``left`` (rows, rank) and ``right`` (rank, columns) is
      added, the outer products summed in the order of the rank.
    - ``bits``: the part ``packed`` holds a number of ``bits`` bits, lowest first, for every element
      in order. From each ``2^(bits-1)`` is taken, the rest is multiplied by the scale of its
      ``group`` consecutive elements, a value of the part ``scale``, and added.
    """

    form: Form
    bits: Annotated[int, Field(ge=2, le=8)] | None = None
    group: Annotated[int, Field(ge=8)] | None = None

    @model_validator(mode="after")
    def _packed(self) -> Self:
        if (self.form == "bits") != (self.bits is not None and self.group is not None):
            raise ValueError("bits and group belong to form bits")
        return self


class Difference(_Model):
    """``difference.json``. ``tensors`` are the names and shapes of the whole checkpoint."""

    format: Literal[1] = 1
    base: BaseIdentity
    dtype: Dtype
    tensors: Annotated[
        dict[str, Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=4)]],
        Field(min_length=1),
    ]
    steps: dict[str, list[Step]]
    changes_sha256: Sha256
    """Of ``difference.safetensors``."""
    weights_sha256: Sha256 | None = None
    """Of the merged file; null only while it is being made."""

    @model_validator(mode="after")
    def _of_its_tensors(self) -> Self:
        if unknown := sorted(self.steps.keys() - self.tensors.keys()):
            raise ValueError(f"steps of {unknown[0]}, which is none of the tensors")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder's. Raises :class:`DifferenceError` in one line."""
        path = folder / DIFFERENCE_FILENAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DifferenceError(f"{path}: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DifferenceError(f"{path}: {where}: {first['msg']}") from error

    def save(self, folder: Path) -> None:
        """Write it into a folder, atomically."""
        text = self.model_dump_json(indent=1, exclude_none=True)
        write_atomic(folder / DIFFERENCE_FILENAME, text + "\n")


def part(tensor: str, form: Form, name: str) -> str:
    """What a part of a step is called in ``difference.safetensors``."""
    return f"{tensor}/{form}/{name}"
