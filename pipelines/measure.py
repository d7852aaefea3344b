"""`python -m pipelines.measure`, which is `opscore measure`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("measure")
