"""Configuration of stages: one small module per stage, none of which imports anything heavy.

To add a stage ``compress``: write ``config/compress.py`` with ``class CompressConfig(StageConfig)``
(every field with a ``description``: it is the stage's ``--help``), a function
``run(config: CompressConfig, *, force: bool = False) -> StageResult`` in
``stages/compress/stage.py``, and one line in ``extracot_training.cli.STAGES``. Field names that
don't change what comes out (worker counts, addresses) go into the class's ``runtime``.
"""
