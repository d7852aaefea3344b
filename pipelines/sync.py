"""`python -m pipelines.sync`, which is `opscore sync`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("sync")
