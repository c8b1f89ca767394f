"""The model that is to reason by budget: loaded, prompted, given control tokens."""
