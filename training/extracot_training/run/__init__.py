"""``extracot-train run``: from a file of problems and a base model to a served checkpoint.

Every stage as it is run by hand, in order, each in a process of its own; the configurations are
written where they can be read and run by themselves.
"""
