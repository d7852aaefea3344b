"""`python -m pipelines.cache`."""

from pipelines.commands.cache import main

if __name__ == "__main__":
    main()
