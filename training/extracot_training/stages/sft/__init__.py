"""Stage ``sft``: fine-tuning on the mixture's replies."""
