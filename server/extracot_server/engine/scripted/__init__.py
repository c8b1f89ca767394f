"""A deterministic engine that needs no model."""
