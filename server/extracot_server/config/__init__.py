"""Settings: flags, variables and YAML, checked once."""
