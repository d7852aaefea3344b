"""`python -m pipelines.pull`."""

from pipelines.commands.pull import main

if __name__ == "__main__":
    main()
