"""Tests of the server's path: the real app over real HTTP, on the scripted engine and on vLLM."""
