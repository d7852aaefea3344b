"""`python -m pipelines.promote`."""

from pipelines.commands.promote import main

if __name__ == "__main__":
    main()
