"""What README and docs say of the choices in conf/ is what the code says."""

from pathlib import Path

import pytest

from handbook.tables import choices_table, replaced, written
from pipelines.cells.compose import CONF
from tests.places import ROOT


@pytest.fixture(scope="module")
def pages() -> dict[str, tuple[Path, str]]:
    """The path and the text of each page, by its stem."""
    return {path.stem: (path, text) for path, text in written(ROOT, CONF)}


@pytest.mark.parametrize("name", ["compatibility", "configuration", "techniques"])
def test_page_is_up_to_date(name: str, pages: dict[str, tuple[Path, str]]) -> None:
    path, text = pages[name]
    assert path.read_text() == text, "run `make docs`"
    assert len(pages) == 3


def test_every_choice_is_listed(pages: dict[str, tuple[Path, str]]) -> None:
    for group, table in (("technique", pages["techniques"][1]), ("model", choices_table(CONF))):
        for path in (CONF / group).glob("*.yaml"):
            assert f"\n| `{path.stem}` |" in table or (group == "model" and f"`{path.stem}`" in table)


def test_settings_have_the_values_of_their_yaml(pages: dict[str, tuple[Path, str]]) -> None:
    lines = [line for line in pages["techniques"][1].splitlines() if line.startswith("| `")]
    rows = {line.split("|")[1].strip(): line for line in lines}
    assert "each on its own. | `pattern=unstructured` `sparsity=0.8`" in rows["`prune`"]
    assert "`per_channel=false` `preserve_sparsity=false` `skip=null`" in rows["`cluster`"]
    assert "| `temperature=4.0` `alpha=0.9` `source` | - |" in rows["`distill`"]
    assert "| `prune`, then `qat` | of `steps.prune`, `steps.qat` | every step's |" in rows["`pqat`"]


def test_a_page_without_its_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold <!-- make docs: techniques --> and <!-- end --> once, got it 0"):
        replaced("# Techniques\n", "techniques", "")
