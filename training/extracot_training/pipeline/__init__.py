"""Parts of every stage: folders, rows, files, checkpoints, statistics."""
