"""One chat request, from its budget to its report, as one stream of typed events."""
