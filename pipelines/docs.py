"""`python -m pipelines.docs`, which `make docs` runs."""

from pipelines.cells import pages
from pipelines.report import article_page

if __name__ == "__main__":
    pages.main()
    article_page.main()
