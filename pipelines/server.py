"""`python -m pipelines.server`."""

from pipelines.commands.server import main

if __name__ == "__main__":
    main()
