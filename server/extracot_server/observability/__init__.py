"""Metrics, request log, traces and the log itself: they observe requests and decide nothing."""
