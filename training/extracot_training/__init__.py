"""Training for `extracot`: from word problems to a checkpoint whose reasoning length is controlled.

Stages talk through folders (:mod:`extracot_training.stage`) of typed rows
(:mod:`extracot_training.records`) and never import each other. Importing this package is cheap:
anything heavy is imported by the stage that needs it, when it runs.
"""
