"""Stages ``mix`` and ``sft``: rows of every budget, and the fine-tuning on them."""
