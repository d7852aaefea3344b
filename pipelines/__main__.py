"""`python -m pipelines`, which is `opscore`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main()
