"""A progress bar on a terminal, and nothing elsewhere (log files stay readable)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol, cast


class Progress(Protocol):
    """The part of tqdm that stages use."""

    def update(self, n: float = 1) -> Any: ...

    def set_postfix(self, ordered_dict: Any = None, **values: Any) -> None: ...


@contextmanager
def progress(total: int | None, what: str, *, done: int = 0) -> Iterator[Progress]:
    """A bar over ``total`` steps of which ``done`` were there already (a resumed run)."""
    tqdm = import_module("tqdm").tqdm
    bar = tqdm(total=total, initial=done, desc=what, disable=None, dynamic_ncols=True)
    try:
        yield cast(Progress, bar)
    finally:
        bar.close()
