"""What README and docs say of the choices in conf/ is what the code says."""

from pathlib import Path

import pytest

from handbook.tables import choices_table, replaced, technique_table, written
from pipelines.cells.compose import CONF
from tests.places import ROOT

PAGES = dict(written(ROOT, CONF))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_is_up_to_date(path: Path) -> None:
    assert path.read_text() == PAGES[path], "run `make docs`"


@pytest.mark.slow
def test_every_choice_is_listed() -> None:
    for group, table in (("technique", technique_table(CONF)), ("model", choices_table(CONF))):
        for path in (CONF / group).glob("*.yaml"):
            assert f"`{path.stem}`" in table


@pytest.mark.slow
def test_settings_have_the_values_of_their_yaml() -> None:
    rows = {line.split("|")[1].strip(): line for line in technique_table(CONF).splitlines()}
    assert "each on its own. | `pattern=unstructured` `sparsity=0.8`" in rows["`prune`"]
    assert "`per_channel=false` `preserve_sparsity=false` `skip=null`" in rows["`cluster`"]
    assert "| `temperature=4.0` `alpha=0.9` `source` | - |" in rows["`distill`"]
    assert "| `prune`, then `qat` | of `steps.prune`, `steps.qat` | every step's |" in rows["`pqat`"]


def test_a_page_without_its_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold <!-- make docs: techniques --> and <!-- end --> once, got it 0"):
        replaced("# Techniques\n", "techniques", "")
