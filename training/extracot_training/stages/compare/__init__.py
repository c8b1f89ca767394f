"""Stage ``compare``."""
