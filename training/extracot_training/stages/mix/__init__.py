"""Stage ``mix``."""
