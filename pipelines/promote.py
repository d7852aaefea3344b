"""`python -m pipelines.promote`, which is `opscore promote`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("promote")
