"""Shortening a trace: atoms, their scores, and a budget spent on them."""
