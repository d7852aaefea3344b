"""The article's view of recorded cells: better or worse than the baseline in three dimensions, by model and technique.

The article (doi:10.17671/gazibtd.976711) calls a technique useful "in 2 dimensions" or "multi-dimensional". Its
abstract finds weight quantization best in several dimensions, and weight clustering and transfer learning useful in
two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison
from pipelines.results.cell_result import DIMENSIONS, Verdict
from pipelines.results.tables import TextColumn, fitted
from pipelines.results.verdict import TRAIN_SPREAD
from pipelines.system import terminal
from pipelines.system.words import number_of

MARKS = {"better": "+", "tied": "=", "worse": "-"}
# The columns of the table: the article's dimensions, of which time is both times.
CRITERIA = ("accuracy", "train_time", "test_time", "time", "size")
HEADINGS = ("accuracy", "training", "testing", "time", "size")
LEGEND = "Each cell against its baseline: better (+), tied (=) or worse (-)."
RULE = (
    f"{LEGEND} The article's three dimensions are accuracy, "
    "time and size, and time is training and testing together: the geometric mean of their ratios to the baseline's, "
    "weighted with their exponents in the score. A time is tied if its 95% interval reaches within 1% of 1. One "
    f"training shows no interval, so the time of a training is taken to scatter by {TRAIN_SPREAD:.0%} when it is "
    "repeated; three seeds or more show their own."
)
# The article's techniques by our names; chains are none of them.
QUANTIZATION = ("quantize_dynamic", "quantize_float16", "quantize_int8", "quantize_int16x8")
CLUSTERING, TRANSFER = ("cluster",), ("transfer",)


class _Marked(Protocol):
    """An entry of a comparison, or a row that one was exported to.

    marks: by criterion. improved: of DIMENSIONS, how many are better than the baseline's; None where nothing is known.
    """

    @property
    def dataset(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def technique(self) -> str: ...
    @property
    def marks(self) -> Mapping[str, Verdict]: ...
    @property
    def improved(self) -> int | None: ...


def table(comparison: Comparison, *, width: float = terminal.UNLIMITED) -> str:
    """Rows of model and technique: each criterion better (+), tied (=) or worse (-), and "k-D"; empty without any."""
    compared = optimized(comparison)
    signs = [marks(entry) for entry in compared]
    columns = [
        TextColumn(heading="model", texts=[entry.model for entry in compared], left=True),
        TextColumn(heading="technique", texts=[entry.optimized_with for entry in compared], left=True),
        TextColumn(heading="settings", texts=[entry.short_settings for entry in compared], left=True),
        *(
            # Time is both times together.
            TextColumn(heading=heading, texts=[sign[name] for sign in signs], rank=int(name.endswith("_time")))
            for heading, name in zip(HEADINGS, CRITERIA, strict=True)
        ),
        TextColumn(heading="better in", texts=[f"{entry.improved}-D" for entry in compared]),
    ]
    return fitted(columns, width) if compared else ""


def optimized(comparison: Comparison) -> list[Entry]:
    """The entries that were compared with a baseline: by model, those that improve most dimensions first."""
    compared = [entry for entry in comparison.entries if entry.marks]
    return sorted(compared, key=lambda entry: (entry.model, -(entry.improved or 0), entry.technique))


def marks(entry: Entry) -> dict[str, str]:
    """A sign for each of CRITERIA, `?` where it is unknown."""
    return {name: MARKS[entry.marks[name]] if name in entry.marks else "?" for name in CRITERIA}


def claims(comparisons: Iterable[Iterable[_Marked]]) -> list[str]:
    """Which of the article's claims hold in these cells, a sentence for each claim.

    comparisons: cells that compare with each other, but not with those of another.
    """
    groups = [[cell for cell in cells if cell.marks] for cells in comparisons]
    compared = [cell for group in groups for cell in group]
    return [
        _quantization_leads(groups),
        _useful_in_two(compared, CLUSTERING, "weight clustering"),
        _useful_in_two(compared, TRANSFER, "transfer learning"),
    ]


def _quantization_leads(groups: Sequence[Sequence[_Marked]]) -> str:
    claim = "That weight quantization is best in several dimensions"
    # How many dimensions each cell improves, by comparison, dataset and model.
    quantized: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    others: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for at, group in enumerate(groups):
        for entry in group:
            for found, techniques in ((quantized, QUANTIZATION), (others, (*CLUSTERING, *TRANSFER))):
                if entry.technique in techniques:
                    found[at, entry.dataset, entry.model].append(entry.improved or 0)
    places = quantized.keys() & others.keys()
    if not places:
        return (
            f"{claim} cannot be tested: that takes quantized cells and clustered or transferred ones of one model and "
            "dataset."
        )
    leads = [place for place in places if max(quantized[place]) >= max(2, *others[place])]
    every = [improved for of_place in quantized.values() for improved in of_place]
    several, cells = sum(improved >= 2 for improved in every), number_of(len(every), "cell")
    return (
        f"{claim} {_holds(len(leads), len(places))}: it improves two or more in {several} of {cells}, "
        f"and on {len(leads)} of {len(places)} pairs of model and dataset its best cell improves two or more and no "
        "fewer than the best clustered or transferred one."
    )


def _useful_in_two(entries: Sequence[_Marked], techniques: Sequence[str], name: str) -> str:
    of_it = [entry for entry in entries if entry.technique in techniques]
    claim = f"That {name} is useful in two dimensions"
    if not of_it:
        return f"{claim} cannot be tested: there is no such cell."
    in_two = sum((entry.improved or 0) >= 2 for entry in of_it)
    better = ", ".join(
        f"{dimension} in {sum(entry.marks[dimension] == 'better' for entry in of_it)}" for dimension in DIMENSIONS
    )
    return f"{claim} {_holds(in_two, len(of_it))}: in {in_two} of {number_of(len(of_it), 'cell')} (better in {better})."


def _holds(count: int, of: int) -> str:
    if count == of:
        return "holds here"
    return "holds here in part" if count else "does not hold here"
