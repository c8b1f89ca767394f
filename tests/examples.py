"""How many examples a property is tried on: in proportion to the profile, so that one word widens
the search for all of them.

    pytest --hypothesis-profile=wide tests/server/test_replies.py

Profiles are in ``tests/conftest.py``. Knows nothing of what is tested.
"""

from __future__ import annotations

from hypothesis import settings

_USUAL = 100


def examples(count: int) -> settings:
    """``count`` examples where the profile has the usual 100, in proportion where it has more."""
    return settings(max_examples=max(1, count * settings.default.max_examples // _USUAL))
