import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.comparison.pages import rewrite, rewrite_file
from tests.comparison.recorded import recorded


def test_tables_of_a_page_hold_the_newest_cells() -> None:
    cells = [
        recorded("prune", started=2, megabytes=0.5),
        recorded("prune", started=1, megabytes=0.1),
        replace(recorded("distill", started=1, megabytes=0.4), source="a-b-baseline"),
        recorded("baseline", started=1),
    ]
    page = "before\n<!-- cells model=vgg16 dataset=cifar10 -->\nold\n<!-- end -->\nafter\n"
    written = rewrite(page, cells)
    lines = written.splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    assert [line.split(" |")[0] for line in lines[4:-2]] == [
        "| `baseline`", "| `distill` from `a-b-baseline`", "| `prune`",
    ]  # fmt: skip
    assert "+3.0" in lines[6] and "+10.0" not in written
    assert lines[6].endswith("| 500 | 500 | 2 of 3 |")
    assert rewrite(written, cells) == written


MARKED = "<!-- cells model=vgg16 dataset=cifar10 -->\n<!-- end -->"


def test_all_else_of_a_page_stays(tmp_path: Path) -> None:
    page, there = tmp_path / "page.md", tmp_path / "elsewhere.md"
    there.write_bytes(f"Übung\r\n{MARKED}\r\nmixed\nends".replace("-->\n", "-->\r\n").encode())
    there.chmod(0o600)
    page.symlink_to(there)
    rewrite_file(page, [recorded("baseline")])
    lines = there.read_bytes().split(b"\n")
    assert page.is_symlink() and there.stat().st_mode & 0o777 == 0o600
    assert lines[0] == "Übung\r".encode() and lines[-2:] == [b"mixed", b"ends"]
    assert b"`baseline`" in lines[4] and all(line.endswith(b"\r") for line in lines[:-2])
    written = there.read_bytes()
    with pytest.raises(ValueError, match="got no finished cell"):
        rewrite_file(page, [recorded("baseline", model="other")])
    assert there.read_bytes() == written and {*tmp_path.iterdir()} == {page, there}


def test_page_in_another_encoding_is_refused_with_a_mend(tmp_path: Path) -> None:
    page = tmp_path / "my page.md"
    page.write_bytes(f"Übung\n{MARKED}\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"must be text in UTF-8, got .* with the byte 0xdc") as refused:
        rewrite_file(page, [recorded("baseline")])
    mend = re.findall("`(.*?)`", str(refused.value))[0]
    subprocess.run(mend, shell=True, cwd=tmp_path, check=True)
    rewrite_file(tmp_path / "my page-utf8.md", [recorded("baseline")])
    assert (tmp_path / "my page-utf8.md").read_text().startswith("Übung\n<!-- cells")


def test_seeds_are_averaged() -> None:
    cells = [recorded("baseline"), *(recorded("prune", seed=seed, accuracy=0.7 + seed / 10) for seed in (0, 1))]
    # Of a seed that was run twice the newest counts.
    written = rewrite(MARKED, [*cells, recorded("prune", seed=1, accuracy=0.9, started=5)])
    assert "| 80.0% |" in written.splitlines()[4] and "`prune`" in written.splitlines()[4]


def test_cells_that_do_not_compare_are_no_table() -> None:
    other = recorded("prune", hardware="another CPU", images=100, started=1)
    with pytest.raises(
        ValueError, match=r"got those of cifar10 \(1,000 .*a CPU\) and of cifar10 \(100 .*another CPU\)"
    ):
        rewrite(MARKED, [recorded("baseline"), other])
    # An older run elsewhere is no part of the table.
    written = rewrite(MARKED, [replace(other, started=-1), recorded("baseline"), recorded("prune")])
    assert written.count("| `prune` |") == 1


def test_names_may_hold_blanks() -> None:
    cell = recorded("prune", dataset="my photos", model="my net", params={"model.input_size": "8"})
    page = "<!-- cells model=my net dataset=my photos model.input_size=8 -->\n<!-- end -->"
    assert "| `prune` |" in rewrite(page, [cell])


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("no mark", "must be a line <!-- cells model=<model> dataset=<dataset> -->, .* got none: write it so"),
        (
            f"{MARKED}\n<!-- cells dataset=cifar10 model=vgg16 -->\nold\n<!-- end -->",
            "got '<!-- cells dataset=cifar10 model=vgg16 -->': write it so",
        ),
        (f"{MARKED}\n<!--cells model=vgg16 dataset=cifar10-->\n<!-- end -->", "got '<!--cells model=vgg16"),
        (f"{MARKED}\n{MARKED.replace(chr(10), chr(32) + chr(10))}", "dataset=cifar10 --> ': write it so"),
        (f"<!-- cells of ours are old -->\n{MARKED}\n<!-- cells model=a dataset=cifar10 -->\n<!-- end -->", "model=a"),
        ("<!-- cells model=a dataset=cifar10 -->\n<!-- end -->", "model=a dataset=cifar10, got no finished"),
        (
            "<!-- cells model=vgg16 dataset=cifar10 model.input_size=9 -->\n<!-- end -->",
            "dataset=cifar10 model.input_size=9, got no finished",
        ),
    ],
)
def test_a_page_without_marks_or_cells_is_refused(page: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rewrite(page, [recorded("prune", params={"model.input_size": "8"})])


def test_the_baseline_of_a_table_is_that_of_its_cells() -> None:
    wide = {"model.width": "32"}
    with pytest.raises(ValueError, match=r"must have the baseline that it shows, got vgg16-cifar10-prune, whose"):
        rewrite(MARKED, [recorded("prune", params={"model.width": "16"}), recorded("baseline", params=wide, started=1)])


def test_text_below_a_mark_without_an_end_is_not_lost() -> None:
    mark, end = MARKED.split("\n")
    for page in (f"{mark}\na word of mine\n{MARKED}\n", f"{MARKED}\na word of mine\n{mark}\n"):
        with pytest.raises(ValueError, match=f"each mark must have a line {end} below its table"):
            rewrite(page, [recorded("baseline")])
