"""Stage ``annotate``: which atoms of each trace are worth keeping, by one of three annotators.

``base`` is their interface; ``rules``, ``likelihood`` and ``llm`` implement it; ``ranges`` is the
text side of ``llm``; ``stage`` runs one over a folder and compares two.
"""
