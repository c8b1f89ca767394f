"""Stage ``fidelity``: what a frozen reader still answers from compressed traces.

``stage`` shortens traces by the baselines, takes compressed ones from their folders, and judges
each text; ``report`` turns rows into paired differences with intervals, tables and plots.
"""
