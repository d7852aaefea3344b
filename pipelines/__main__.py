"""`python -m pipelines`, which is the program `opscore`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main()
