"""The playground: a page in the browser to solve problems, compare budgets and add up savings.

:mod:`~extracot_client.playground.page` is the page as a whole, ``tabs`` its three tabs, ``backend``
what a button does, ``views`` what is shown. Gradio is imported with the page, not with this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extracot_client.playground.page import build_playground, mount

__all__ = ["build_playground", "mount"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from extracot_client.playground import page

    return getattr(page, name)
