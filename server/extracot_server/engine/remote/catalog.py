"""Reads what a vLLM server reports and chooses one of its models. Knows no connections."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel

from extracot_server.engine.base import EngineError


class UpstreamMismatchError(EngineError):
    """An upstream answers, but is not what is served here; one line for an operator."""


class ModelCard(BaseModel):
    """One entry of ``/v1/models``; ``parent`` is set for adapters, whose ``root`` is their folder.

    Of the entry that :func:`choose_model` returns, ``root`` is the model's and ``adapter`` the
    adapter's.
    """

    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    adapter: str | None = None


class ModelList(BaseModel):
    """``/v1/models``."""

    data: list[ModelCard]


class Version(BaseModel):
    """``/version``."""

    version: str


class Tokens(BaseModel):
    """``/tokenize``."""

    tokens: list[int]


def check_answer(status: int, location: str | None, url: str) -> None:
    """Raise :class:`UpstreamMismatchError` where the status of ``/v1/models`` needs an operator.

    ``location`` is the header of a redirect. None is followed: the key would go along, and a POST
    might come out as a GET.
    """
    if status in (401, 403):
        raise UpstreamMismatchError(f"upstream {url} refuses the API key")
    if 300 <= status < 400:
        where = f" to {_without_secrets(location)}" if location else ""
        raise UpstreamMismatchError(
            f"upstream {url} redirects{where} (status {status}), and redirects are not followed: "
            "name the address itself"
        )


def _without_secrets(address: str) -> str:
    """The part of an address that names a server and a path, of which an operator may read all.

    >>> _without_secrets("https://me:secret@host/v1/models?token=1")
    'https://host/v1/models'
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return "no address"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:200]


def choose_model(cards: Sequence[ModelCard], wanted: str | None, url: str) -> ModelCard:
    """The entry of ``/v1/models`` to use; raises :class:`UpstreamMismatchError`.

    ``wanted`` is a served name (an adapter's too), or the folder or hub id behind one.
    """
    base = [card for card in cards if card.parent is None]
    found = base if wanted is None else [card for card in cards if card.id == wanted]
    found = found or [card for card in base if card.root == wanted]
    served = ", ".join(card.id for card in cards) or "nothing"
    if not found:
        raise UpstreamMismatchError(f"upstream {url} serves {served}, not {wanted or 'a model'}")
    if wanted is None and len({card.root or card.id for card in found}) > 1:
        raise UpstreamMismatchError(f"upstream {url} serves {served}: choose one with --model")
    card = found[0]
    parent = next((other for other in base if other.id == card.parent), card)
    length = card.max_model_len or parent.max_model_len
    if length is None:
        raise UpstreamMismatchError(
            f"upstream {url} does not report the max_model_len of {card.id}; is it a vLLM server?"
        )
    own = {"max_model_len": length, "root": parent.root or card.root}
    return card.model_copy(update=own | {"adapter": card.root if card.parent else None})
