"""Budgets: read, resolved for a model, turned into token limits, and measured by a holdout."""
