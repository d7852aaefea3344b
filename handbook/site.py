"""What the website has in addition to docs/: README and the like, and pages written from the code (mkdocs.yml)."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Files of the repository by their path on the site. MkDocs makes index.html of README.md.
ADDED = {
    "README.md": "README.md",
    "contents.md": "docs/index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CITATION.cff": "CITATION.cff",
}
# Links of these files as they are on the site; the first that fits.
MOVED = {"](docs/index.md": "](contents.md", "](docs/": "](", "](../README.md": "](README.md"}
COMMANDS, TECHNIQUES = "reference/commands.md", "reference/techniques"
# Pages in whose tables each row begins with a technique.
WITH_TECHNIQUES = ("reference/techniques.md", "reference/compatibility.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and the order of all pages to the configuration."""
    root = Path(config.config_file_path).parent
    # MkDocs looks for modules beside this file.
    sys.path.insert(0, str(root))
    from handbook.command_reference import command_reference
    from handbook.technique_pages import technique_pages

    of_docs = files.get_file_from_path("index.md")
    assert of_docs is not None
    files.remove(of_docs)
    pages = {path: moved((root / source).read_text()) for path, source in ADDED.items()}
    techniques = {f"{TECHNIQUES}/{name}.md": text for name, text in technique_pages(root / "conf").items()}
    for path, text in (pages | techniques | {COMMANDS: command_reference()}).items():
        files.append(File.generated(config, path, content=text))
    config.nav = navigation((root / "docs/index.md").read_text(), list(techniques))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 (MkDocs')
    """Link the techniques of a table to their pages."""
    if page.file.src_uri not in WITH_TECHNIQUES:
        return markdown

    def link(found: re.Match[str]) -> str:
        there = files.get_file_from_path(f"{TECHNIQUES}/{found[1]}.md")
        return f"| [`{found[1]}`](techniques/{found[1]}.md) |" if there else found[0]

    return re.sub(r"^\| `(\w+)` \|", link, markdown, flags=re.MULTILINE)


def moved(text: str) -> str:
    """A file's text with its links as they are on the site."""
    return re.sub("|".join(map(re.escape, MOVED)), lambda found: MOVED[found[0]], text)


def navigation(index: str, techniques: list[str]) -> list[dict[str, Any]]:
    """The order of pages: that of docs/index.md, by its headings, with the added pages in their places."""
    sections: dict[str, list[Any]] = {}
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        for title, path in re.findall(r"\[([^\]]+)\]\(([^)#]+\.md)\)", text):
            of_notes = path.startswith("lab-notes/")
            sections.setdefault("Lab notes" if of_notes else heading, []).append({title[0].upper() + title[1:]: path})
    reference = sections["Reference"]
    reference.insert(1, {"Commands": COMMANDS})
    reference.insert(reference.index({"Techniques": f"{TECHNIQUES}.md"}) + 1, {"Each technique": techniques})
    sections["For maintainers"] += [{"Contributing": "CONTRIBUTING.md"}, {"Changelog": "CHANGELOG.md"}]
    home = {"Home": [{"Start": "README.md"}, {"All pages": "contents.md"}]}
    return [{title: pages} for title, pages in (home | sections).items()]
