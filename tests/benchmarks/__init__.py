"""Tests of the benchmarks' harness; never of what they measure."""
