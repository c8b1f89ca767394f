"""Inference engines behind one protocol: :mod:`extracot_server.engine.base`."""
