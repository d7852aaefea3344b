"""`python -m pipelines.compare`."""

from pipelines.commands.compare import main

if __name__ == "__main__":
    main()
