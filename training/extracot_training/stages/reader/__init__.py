"""Stage ``reader``: trains the small frozen reader that judges compressed traces.

The reader answers from a question and whatever is left of a trace. It is trained from scratch on
generated problems, with traces corrupted in many ways, none of them ours: it must not favour one
compressor. It never sees the problems that the fidelity report is made on.
"""
