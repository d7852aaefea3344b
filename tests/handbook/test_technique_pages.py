"""The website's page of each technique has what its class and its yaml say."""

import re

import pytest

from handbook.technique_pages import technique_pages
from pipelines.cells.compose import CONF
from tests.documented import check


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return technique_pages(CONF)


def test_every_technique_has_a_page_and_chains_come_last(pages: dict[str, str]) -> None:
    names = [*pages]
    assert sorted(names) == sorted(path.stem for path in (CONF / "technique").glob("*.yaml"))
    assert names[0] == "baseline" and names.index("transfer") < names.index("cluster_quantize_int8")


@pytest.mark.slow
def test_command_of_each_page_composes(pages: dict[str, str]) -> None:
    for page in pages.values():
        (command,) = re.findall(r"^    (opscore run .*)$", page, re.MULTILINE)
        check(command.split(), CONF, ())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "cluster",
            [
                "# cluster\n\nFine-tune the baseline while each kernel holds no more than `clusters` distinct values.",
                "clusters: 16 # distinct values in a kernel, 3 to 256\n",
                "\n- `clusters`: 3 to 256.\n- `initialization`: of the shared values, `kmeans++`",
                "\n- `epochs`, `learning_rate`: of the fine-tuning",
                "\n\nAll Conv2D and Dense kernels with more weights than clusters are clustered",
                "## Checked on the exported model\n\nAt most `clusters` values in every channel;",
                "\n\nIt accepts every model",
                "Source: Han et al. 2016, [arXiv:1510.00149](https://arxiv.org/abs/1510.00149);",
            ],
        ),
        ("prune_2_4", ["become zero: two in every four input channels in a row.\n\nThe number of zeros"]),
        (
            "baseline",
            [
                "All other cells of its model and dataset are compared with it.",
                "Nothing: other cells are compared with it.",
            ],
        ),
        ("distill", ["Nothing, as the file cannot show it; opscore checks during training."]),
        ("transfer", ["All models except:\n\n- `small_cnn`: transfer needs pretrained weights"]),
        (
            "pcqat",
            [
                "A combination: [`prune`](prune.md), then [`cluster`](cluster.md), then [`qat`](qat.md).",
                "It starts from the cell of [`prune_cluster`](prune_cluster.md)",
                "Change a setting with `technique.steps.<step>.<setting>=...`.",
                "\n- `qat`: no float32 tensor",
            ],
        ),
    ],
)
def test_page_has_description_settings_and_effect(name: str, parts: list[str], pages: dict[str, str]) -> None:
    for part in parts:
        assert part in pages[name]


def test_baseline_has_no_settings(pages: dict[str, str]) -> None:
    assert "## Settings" not in pages["baseline"]
