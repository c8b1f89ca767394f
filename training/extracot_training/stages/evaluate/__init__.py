"""Stages ``evaluate`` (measure a running server) and ``compare`` (evaluations in one table).

``server`` finds out what is served, ``asking`` asks and times, ``stage`` keeps replies and judges
them, ``figures`` makes numbers of rows, ``report`` and ``plots`` show them, ``card`` picks what a
budget card holds.
"""
