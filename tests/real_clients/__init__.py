"""The clients that people use, as they are published, each in an environment of its own."""
