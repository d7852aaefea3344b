"""`python -m pipelines.run`, which is `opscore run`, and `opscore sweep` with -m."""

from pipelines.commands.run import main

if __name__ == "__main__":
    main()
