"""Stage ``reference``: what each problem needs of the model, and how well each level does."""
