"""Stage ``problems``."""
