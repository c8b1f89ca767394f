"""Stages ``compressor`` (train the token classifier) and ``compress`` (apply it).

``data`` turns question and trace into windows of encoder tokens, ``model`` holds the encoder and
what a compressor folder looks like, ``train`` is the stage that makes one, ``scoring`` gives every
atom its score, ``compress`` spends budgets, ``command`` is ``extracot-train compress --text``.
"""
