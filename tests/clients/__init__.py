"""Tests of the Python client, the ``extracot`` command and the examples."""
