"""What each key has used and may still use: counters in a store that outlives the process."""
