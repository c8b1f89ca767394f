"""Stage ``evaluate``: measures a running server. ``client`` asks and times, ``stage`` keeps replies
and judges them; figures, tables and plots are in ``extracot_training.evaluation``.
"""
