"""`python -m pipelines.report`."""

from pipelines.commands.report import main

if __name__ == "__main__":
    main()
