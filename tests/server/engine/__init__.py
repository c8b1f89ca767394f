"""Tests of the engines: the scripted one, and vLLM for real."""
