"""Mathematics in text: finding it, and whether two answers are equal. Plain strings."""
