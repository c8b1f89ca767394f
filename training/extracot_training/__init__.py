"""Training for `extracot`: from word problems to a checkpoint whose reasoning length is controlled.

Stages talk through folders (:mod:`extracot_training.pipeline.stage`) of typed rows
(``pipeline.records``) and never import each other. Importing this package is cheap:
anything heavy is imported by the stage that needs it, when it runs.
"""
