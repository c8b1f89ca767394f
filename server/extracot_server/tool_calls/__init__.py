"""Function calling: the tools of a request, and calls read from a model's text."""
