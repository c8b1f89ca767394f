"""Stage ``teach``."""
