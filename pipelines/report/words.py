"""What a report says about cells in words: short names, why the first one leads, what was not alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison
from pipelines.results.columns import CRITERION
from pipelines.results.score import BUDGETS, CRITERIA

# Two scores that differ by less in a criterion are alike in it.
MIN_DB = 0.05
MAX_LENGTH = 64
_SETTING = re.compile(r"(?:(?<=\s)|^)([\w.]+)\.(\w+)=")


def variation(entry: Entry) -> str:
    """What tells a cell from others of the same model, dataset and technique; empty where nothing has to."""
    return entry.label.removeprefix(entry.runs[0].name).strip()


def short_names(comparison: Comparison) -> dict[str, str]:
    """Label -> a name for figures: without the dataset, and settings by the last part of their names."""
    return {
        entry.label: " ".join(filter(None, (entry.model, entry.technique, _shortened(variation(entry)))))
        for entry in comparison.entries
    }


def fitting(name: str, longest: int = MAX_LENGTH) -> str:
    """`name`, cut where it is too long for a figure."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def reasons(comparison: Comparison) -> list[str]:
    """Why the winner is the winner, a sentence each; empty where there is none."""
    winner = comparison.winner
    if winner is None:
        return []
    said = []
    rivals = [entry for entry in comparison.entries if entry.eligible and not math.isnan(entry.score.value)][1:]
    if rivals:
        said.append(_lead(winner, rivals[0]))
    said.append(
        f"It is right on {winner.accuracy.value:.2%} of the test images{_interval(winner)}, takes "
        f"{winner.test_ms.value:.3g} ms an image and {size(winner.compressed_bytes.value)} compressed, and took "
        f"{winner.train_s.value:.3g} s to train."
    )
    if winner.improved is not None:
        said.append(
            f"On its own baseline it gains {winner.gain.value:+.2f} dB and is better in {winner.improved} of 3 "
            f"dimensions ({', '.join(f'{name} {mark}' for name, mark in winner.marks.items())})."
        )
    return said


def cautions(comparison: Comparison) -> list[str]:
    """What was not alike among the cells, so that their numbers compare with reserve only; a sentence each."""
    if len(profiles(comparison)) < 2:
        return []
    return [
        "The cells were scored with different exponents or budgets, so their scores do not compare: choose one profile "
        "with filter=\"params.`score.size` = '0.5'\" or the like."
    ]


def profiles(comparison: Comparison) -> list[str]:
    """The exponents and budgets under which the cells were scored, in words; one for most comparisons."""
    found = set()
    for entry in comparison.entries:
        for run in entry.runs:
            exponents = ", ".join(f"{CRITERION[name]} {float(run.params[f'score.{name}']):g}" for name in CRITERIA)
            budgets = [
                f"{name} {run.params[f'score.{name}']}"
                for name in BUDGETS
                if run.params.get(f"score.{name}", "None") != "None"
            ]
            found.add(f"exponents {exponents}; " + (f"budgets {', '.join(budgets)}" if budgets else "no budget"))
    return sorted(found)


def size(count: float) -> str:
    """Bytes as kB or MB, of 1,000 and 1,000,000 bytes."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _shortened(settings: str) -> str:
    """`technique.epochs=3` as `epochs=3`, unless another of the settings ends alike."""
    lasts = [found[2] for found in _SETTING.finditer(settings)]
    return _SETTING.sub(lambda found: f"{found[2]}=" if lasts.count(found[2]) == 1 else found[0], settings)


def _lead(winner: Entry, rival: Entry) -> str:
    own, other = winner.terms, rival.terms
    differences = sorted(((CRITERION[name], own[name] - other[name]) for name in CRITERIA), key=lambda d: -abs(d[1]))
    said = [f"It leads {rival.label} by {winner.score.value - rival.score.value:.2f} dB"]
    for sign, where in ((1, "ahead"), (-1, "behind")):
        of_sign = [f"{name} ({value:+.2f} dB)" for name, value in differences if sign * value >= MIN_DB]
        said += [f"{where} in {listed(of_sign)}"] if of_sign else []
    return ", ".join(said) + "."


def _interval(entry: Entry) -> str:
    low, high = entry.accuracy.low, entry.accuracy.high
    return "" if math.isnan(low) else f" (95% interval {low:.1%} to {high:.1%})"
