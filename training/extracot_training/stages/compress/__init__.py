"""Stage ``compress``."""
