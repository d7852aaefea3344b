"""`python -m pipelines.measure`."""

from pipelines.commands.measure import main

if __name__ == "__main__":
    main()
