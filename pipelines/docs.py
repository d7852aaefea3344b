"""`python -m pipelines.docs`, which `make docs` runs."""

from pipelines.cells.pages import main

if __name__ == "__main__":
    main()
