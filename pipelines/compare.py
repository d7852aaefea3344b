"""`python -m pipelines.compare`, which is `opscore compare`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("compare")
