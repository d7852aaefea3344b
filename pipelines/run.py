"""`python -m pipelines.run`."""

from pipelines.commands.run import main

if __name__ == "__main__":
    main()
