"""Stage ``compressor``: trains the token classifier that ranks atoms."""
