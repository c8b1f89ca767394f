"""Stage ``fidelity``: what a frozen reader still answers from compressed traces.

``shortened`` shortens traces in ways to be beaten and judges one shortened text, ``report`` turns
rows into paired differences with intervals, writes and draws them.
"""
