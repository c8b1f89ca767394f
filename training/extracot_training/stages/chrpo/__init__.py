"""Stage ``chrpo``: trains a model's choice of its own reasoning level."""
