"""Tests of what is around the code: house rules, locks, installer, Makefile, wheel."""
