"""The models that are served: found, loaded, watched, and looked up by name."""
