"""`python -m pipelines.compatibility`."""

from pipelines.cells.compatibility import main

if __name__ == "__main__":
    main()
