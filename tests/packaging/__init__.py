"""Tests of what is around the code: source rules, locks, installer, Makefile, wheel."""
