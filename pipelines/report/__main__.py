"""`python -m pipelines.report`, which is `opscore report`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("report")
