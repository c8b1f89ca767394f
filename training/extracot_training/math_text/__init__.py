"""Mathematics in text: where it stands, and whether two answers are equal. Plain strings."""
