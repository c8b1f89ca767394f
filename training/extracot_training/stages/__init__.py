"""The stages, each by its command's own name; they meet only in folders."""
