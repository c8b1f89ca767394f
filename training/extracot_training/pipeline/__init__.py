"""What every stage is made of: folders, rows, files, checkpoints, statistics."""
