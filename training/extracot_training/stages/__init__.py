"""The stages, each named as its command; they share data only through folders."""
