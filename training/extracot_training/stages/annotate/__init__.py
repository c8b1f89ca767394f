"""Stage ``annotate``: which atoms of each trace are worth keeping, by one of three annotators.

``base`` is their interface; ``rules``, ``likelihood`` and ``llm`` are they; ``ranges`` is the text
side of the last; ``agreement`` compares two of them; ``stage`` runs one over a folder.
"""
