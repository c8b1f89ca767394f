"""The subcommands of ``extracot``, a module each with ``run(arguments) -> exit code``."""
