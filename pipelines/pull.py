"""`python -m pipelines.pull`, which is `opscore pull`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("pull")
