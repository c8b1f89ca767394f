"""Measurements, run by hand (`make bench`); results go with their date into docs/experiments.md."""
