"""`python -m pipelines.cache`, which is `opscore cache`."""

from pipelines.commands.cli import main

if __name__ == "__main__":
    main("cache")
