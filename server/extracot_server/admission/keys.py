"""API keys from a YAML file or a setting: who may use the server, and within which limits.

A key is kept as its SHA-256 only, and no message, ``repr`` or log line shows one. What a key
allows narrows the operator's policy and never widens it. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from extracot_server.admission.quotas import Quota, QuotaEntry
from extracot_server.budget.resolve import BudgetPolicy
from extracot_server.budget.values import Target
from extracot_server.config import in_force
from extracot_server.config.model_settings import BudgetWord, Ratio
from extracot_server.config.setting_values import (
    SettingsError,
    did_you_mean,
    first_fault,
    load_yaml,
    read_text,
)

API_KEY_NAME = "api_key"
BATCH_PRIORITY = 1001
"""Behind any priority that a key may have."""
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_M = TypeVar("_M", bound=BaseModel)
_Digest = Annotated[str, StringConstraints(pattern=r"^(sha256:)?[0-9a-fA-F]{64}$")]

_RULES = {
    "default": "must be a number in (0, 1], auto, native or none",
    "group": "must be the name of one of the groups",
    "name": "must be 1 to 64 letters, digits, dots, dashes or underscores",
    "key": "must be text: put it in quotes",
    "sha256": "must be 64 hexadecimal digits, in quotes",
}


_QUOTA_FIELDS = "a quota has tokens or requests, per, and may have when_over: {budget: 0.2}"


class KeysError(SettingsError):
    """The keys cannot be used; the message is one line and shows none of them."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request and what the operator grants: everything about a key but the key.

    ``None`` leaves a matter to the server's own settings. Lower ``priority`` is served first.
    """

    name: str = ""
    default: Target | None = None
    floor: float | None = None
    ceiling: float | None = None
    reasoning_tokens_ceiling: int | None = None
    models: frozenset[str] | None = None
    requests_per_minute: int | None = None
    concurrency: int | None = None
    priority: int = 0
    quotas: tuple[Quota, ...] = ()
    admin: bool = False
    """Whether it may see what other keys have used."""
    in_batch: bool = False
    """Whether the request is a line of a batch, which holds none of the key's slots."""

    def for_batches(self) -> Principal:
        """The same for the lines of its batches: after everybody else, and beside its own limits.

        Else a batch would refuse the key's other requests; how many lines run is the server's.
        """
        return replace(
            self,
            priority=BATCH_PRIORITY,
            requests_per_minute=None,
            concurrency=None,
            in_batch=True,
        )

    def may_use(self, model: str) -> bool:
        """Whether this principal may know of a model at all."""
        return self.models is None or model in self.models

    def narrow(self, policy: BudgetPolicy) -> BudgetPolicy:
        """The server's policy within what this principal may do.

        The result never leaves the server's range: where the two do not meet, what is left is the
        server's bound that lies nearest.
        """
        low, high = policy.floor or 0.0, policy.ceiling if policy.ceiling is not None else 1.0
        floor = policy.floor if self.floor is None else min(max(self.floor, low), high)
        ceiling = policy.ceiling if self.ceiling is None else min(max(self.ceiling, low), high)
        caps = [policy.reasoning_tokens_ceiling, self.reasoning_tokens_ceiling]
        return replace(
            policy,
            default=policy.default if self.default is None else self.default,
            floor=floor,
            ceiling=ceiling,
            reasoning_tokens_ceiling=min((c for c in caps if c is not None), default=None),
        )


ANONYMOUS = Principal()
"""The principal of a server that asks for no key."""


class _Entry(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: _Name
    key: SecretStr | None = None
    sha256: _Digest | None = None
    default: Ratio | BudgetWord | None = None
    floor: Ratio | None = None
    ceiling: Ratio | None = None
    reasoning_tokens_ceiling: int | None = Field(None, ge=0)
    models: list[str] | None = Field(None, min_length=1)
    requests_per_minute: int | None = Field(None, ge=1, le=1_000_000)
    concurrency: int | None = Field(None, ge=1)
    priority: int = Field(0, ge=-1000, le=1000)
    group: _Name | None = None
    quotas: list[QuotaEntry] = Field(default_factory=list)
    admin: bool = False

    @model_validator(mode="after")
    def _check(self) -> _Entry:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give key or sha256, one of them")
        if self.floor is not None and self.ceiling is not None and self.floor > self.ceiling:
            raise ValueError(f"floor ({self.floor}) is above ceiling ({self.ceiling})")
        if self.key is not None and not _sendable(self.key.get_secret_value()):
            raise ValueError("key must be printable ASCII without spaces, and not empty")
        return self

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""
        if self.sha256 is not None:
            return bytes.fromhex(self.sha256.removeprefix("sha256:"))
        assert self.key is not None
        return digest_of(self.key.get_secret_value().encode())

    def principal(self, groups: Mapping[str, _Group]) -> Principal:
        """What the entry grants, its group's quotas among it."""
        granted = self.model_dump(exclude={"key", "sha256", "models", "group", "quotas"})
        quotas = [quota.quota(f"key {self.name}") for quota in self.quotas]
        if self.group is not None:
            quotas += [quota.quota(f"group {self.group}") for quota in groups[self.group].quotas]
        models = None if self.models is None else frozenset(self.models)
        return Principal(**granted, models=models, quotas=tuple(quotas))


class _Group(BaseModel):
    """A group of keys that have quotas in common."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: _Name
    quotas: list[QuotaEntry] = Field(min_length=1)


def digest_of(key: bytes) -> bytes:
    """The digest of a key, which is kept and compared."""
    return hashlib.sha256(key).digest()


def _sendable(key: str) -> bool:
    return key.isascii() and key.isprintable() and bool(key) and " " not in key


class KeyStore:
    """The keys in force. Without any, everybody is :data:`ANONYMOUS`."""

    def __init__(self, path: Path | None = None, api_key: str | None = None) -> None:
        """Read the file, if there is one. Raises :class:`KeysError` in one line, unless a sibling
        of this worker goes on with what the file said before: then this one does, too."""
        self._path = path
        self._api_key = None if api_key is None else digest_of(api_key.encode())
        self._text: str | None = None
        self.refused: KeysError | None = None
        """Why the file as it is now is not in force."""
        try:
            self._keys = self._read()
        except KeysError as error:
            self._go_on(error)

    def __repr__(self) -> str:
        return f"KeyStore({len(self._keys)} keys)"

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._keys)

    @property
    def principals(self) -> tuple[Principal, ...]:
        """The principals of all keys."""
        return tuple(principal for _, principal in self._keys)

    def named(self, name: str) -> Principal | None:
        """The principal of that name, for what was left here under it; ``None`` if it has gone."""
        if not self._keys:
            return None if name else ANONYMOUS
        return next((found for found in self.principals if found.name == name), None)

    def find(self, presented: bytes | None) -> Principal | None:
        """The principal of this key; ``None`` if unknown.

        Takes the same time whichever key it is: digests are compared in constant time, and all.
        """
        if not self._keys:
            return ANONYMOUS
        digest, found = digest_of(presented or b""), None
        for known, principal in self._keys:
            if hmac.compare_digest(known, digest):
                found = principal
        return found if presented else None

    def reload(self, check: Callable[[Sequence[Principal]], None]) -> set[str]:
        """Read the file again and let ``check`` judge its principals.

        Returns the names that have another secret now. Raises :class:`KeysError`; the keys in
        force are kept then.
        """
        keys = self._read()
        check([principal for _, principal in keys])
        before = {principal.name: digest for digest, principal in self._keys}
        self._keys, self.refused = keys, None
        self._keep()
        return {who.name for digest, who in keys if before.get(who.name, digest) != digest}

    def settle(self, check: Callable[[Sequence[Principal]], None]) -> None:
        """Let ``check`` judge what was read at the start, once models are known. Raises as the
        start does."""
        try:
            check(self.principals)
        except KeysError as error:
            self._go_on(error)
            check(self.principals)
        if self.refused is None:
            self._keep(first=True)  # siblings may have something newer in force

    def _keep(self, *, first: bool = False) -> None:
        if self._path is not None and self._text is not None:
            in_force.keep(self._path, self._text, first=first)

    def _go_on(self, error: KeysError) -> None:
        """With what a sibling has, or not at all."""
        text = None if self._path is None else in_force.text_of(self._path)
        if text is None or self.refused is not None:
            raise error
        self.refused = error
        self._keys = self._of(text)

    def _read(self) -> tuple[tuple[bytes, Principal], ...]:
        text = None if self._path is None else keys_text(self._path)
        keys = self._of(text)
        self._text = text
        return keys

    def _of(self, text: str | None) -> tuple[tuple[bytes, Principal], ...]:
        keys = [] if text is None or self._path is None else parse_keys(text, self._path)
        if self._api_key is not None:
            keys.append((self._api_key, Principal(name=API_KEY_NAME)))
        return tuple(keys)


def keys_text(path: Path) -> str:
    """A keys file's text. Raises :class:`KeysError`."""
    try:
        return read_text(path, "keys file")
    except ValueError as error:
        raise KeysError(str(error)) from None


def parse_keys(text: str, path: Path) -> list[tuple[bytes, Principal]]:
    """Digest and principal of each entry. Raises :class:`KeysError` naming entry and field."""
    content = _parse_yaml(text, path)
    groups: dict[str, _Group] = {}
    for index, raw in enumerate(content["groups"]):
        group = _validated(_Group, raw, f"keys file {path}: groups[{index}]")
        if group.name in groups:
            raise KeysError(f"keys file {path}: the group {group.name} is there twice")
        groups[group.name] = group
    entries = [
        _validated(_Entry, raw, f"keys file {path}: keys[{index}]")
        for index, raw in enumerate(content["keys"])
    ]
    _refuse_duplicates(path, entries)
    for entry in entries:
        if entry.group is not None and entry.group not in groups:
            known = ", ".join(groups) or "none"
            raise KeysError(f"keys file {path}: {entry.name}: group: there are these: {known}")
    return [(entry.digest, entry.principal(groups)) for entry in entries]


def _validated(kind: type[_M], raw: object, where: str) -> _M:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise KeysError(f"{where}: {_explain(error, kind)}") from None


def _parse_yaml(text: str, path: Path) -> dict[str, list[Any]]:
    try:
        content = load_yaml(text, f"keys file {path}")
    except ValueError as error:
        raise KeysError(str(error)) from None
    known = isinstance(content, dict) and set(content) <= {"keys", "groups"}
    entries = content.get("keys") if known else None
    if not isinstance(entries, list) or not entries:
        raise KeysError(
            f"keys file {path} must hold `keys:` and a list of entries under it, and may hold "
            "`groups:`"
        )
    groups = content.get("groups", [])
    if not isinstance(groups, list):
        raise KeysError(f"keys file {path}: groups must be a list of entries")
    return {"keys": entries, "groups": groups}


def _refuse_duplicates(path: Path, entries: Sequence[_Entry]) -> None:
    names, digests = {API_KEY_NAME}, set()
    for entry in entries:
        if entry.name in names:
            raise KeysError(f"keys file {path}: the name {entry.name} is taken")
        if entry.digest in digests:
            raise KeysError(f"keys file {path}: {entry.name} has the key of another entry")
        names.add(entry.name)
        digests.add(entry.digest)


def _explain(error: ValidationError, entry: type[BaseModel]) -> str:
    """What is wrong, never with what was given: it may be a key in the wrong place."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, place = first["type"], first["loc"]
    field, message = first_fault(error)
    message = message[:1].lower() + message[1:]
    if len(place) > 1 and field == "quotas":
        where = f"quotas[{place[1]}]"
        if kind == "extra_forbidden":
            return f"{where}: an unknown field; {_QUOTA_FIELDS}"
        inside = ".".join(str(part) for part in place[2:] if isinstance(part, str))
        return f"{where}{'.' if inside else ''}{inside}: {message}"
    if kind == "extra_forbidden":
        if hint := did_you_mean(field, entry.model_fields):
            return f"unknown field {field}{hint}"
        return f"an unknown field; allowed: {', '.join(entry.model_fields)}"
    if kind == "model_type":
        return "an entry must be `name: value` lines"
    return f"{field}: {_RULES.get(field, message)}" if field else message
