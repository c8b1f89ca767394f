"""Stage ``base``: a small model from scratch, for recipes that need no pretrained one."""
