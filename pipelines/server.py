"""`python -m pipelines.server`, which is `opscore server`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("server")
