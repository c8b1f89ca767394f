"""Quotas of keys and groups of keys, as the keys file has them. Knows no store and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extracot_server.config.model_settings import Ratio

MAX_LIMIT = 10**15


class Period(StrEnum):
    """What a quota is for: a calendar minute, day or month, in UTC."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``limit`` tokens or requests a period, of one key or of all keys of a group.

    ``budget`` is what requests are lowered to once it is used up; ``None``: they are refused.
    """

    owner: str
    kind: Literal["tokens", "requests"]
    limit: int
    period: Period
    budget: float | Literal["none"] | None = None

    @property
    def name(self) -> str:
        """Its counter's name. What is lowered counts replies that have ended, and no others."""
        return f"{self.owner} {self.kind}{' ended' if self.budget is not None else ''}"


class WhenOver(BaseModel):
    """What becomes of requests over a quota instead of a refusal."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    budget: Ratio | Literal["none"]


class QuotaEntry(BaseModel):
    """A quota in the file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    tokens: int | None = Field(None, ge=1, le=MAX_LIMIT)
    requests: int | None = Field(None, ge=1, le=MAX_LIMIT)
    per: Literal["minute", "day", "month"]
    when_over: WhenOver | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> QuotaEntry:
        if (self.tokens is None) == (self.requests is None):
            raise ValueError("a quota has tokens or requests, one of them")
        return self

    def quota(self, owner: str) -> Quota:
        """The quota of a key or group."""
        kind: Literal["tokens", "requests"] = "requests" if self.tokens is None else "tokens"
        limit = self.requests if self.tokens is None else self.tokens
        assert limit is not None
        budget = None if self.when_over is None else self.when_over.budget
        return Quota(owner, kind, limit, Period(self.per), budget)
