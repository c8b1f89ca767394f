"""Function calling: what may be called, and calls read out of a model's text."""
