"""Stage ``publish``: a trained model as a folder that can be served, with its card and lineage.

``weights`` collects or merges the model's files, ``lineage`` finds the stages it came from,
``card`` fills the budget card, ``readme`` writes the model card, ``check`` tries the result and
asks a real server for every level, ``stage`` puts all in place at once.
"""
