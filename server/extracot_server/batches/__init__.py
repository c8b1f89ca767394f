"""Files and batches: kept in a folder, run in the background. Knows no HTTP."""
