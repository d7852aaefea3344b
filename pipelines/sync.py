"""`python -m pipelines.sync`."""

from pipelines.commands.sync import main

if __name__ == "__main__":
    main()
