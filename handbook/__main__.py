"""Rewrite the generated parts of README and docs: `make docs`, which is `python -m handbook`."""

from handbook import article_page, tables

if __name__ == "__main__":
    tables.main()
    article_page.main()
