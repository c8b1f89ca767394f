"""Stage ``fidelity``: what a frozen reader still answers from compressed traces.

``stage`` shortens traces by the baselines and judges each shortened text, ``report`` turns rows
into paired differences with intervals, tables and plots.
"""
