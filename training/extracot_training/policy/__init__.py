"""The model being trained (the policy model): loaded, prompted, given control tokens."""
