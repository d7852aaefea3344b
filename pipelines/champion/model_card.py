"""A model card in markdown: purpose, origin, quality and limits of an exported model.

Sections after Mitchell et al. 2019, arXiv:1810.03993. This module reads no store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.champion.licences import of_weights
from pipelines.results import promotion
from pipelines.results.cell_result import BaselineComparison, CellResult, Timing
from pipelines.results.columns import UNKNOWN, milliseconds, percent, seconds, three_digits
from pipelines.results.files import LABELS, MODEL, PROGRAM
from pipelines.results.metrics import FILE_HASH, SCORE, TEST_MS, TRAIN_TIME, term_of
from pipelines.results.on_device import HARDWARE, INVALID, NOT_INVALID, PRECISION, VERSION, Figures, fastest, figures
from pipelines.results.recorded_cell import RecordedCell
from pipelines.results.score import CRITERIA
from pipelines.results.statistics import wilson
from pipelines.results.tables import markdown, plain
from pipelines.system.words import number_of

HEADING = ("what", "value")
# Tags of a version in its card, with their headings.
CARD_TAGS = {
    TEST_MS: "test time that decided, ms",
    promotion.SCORE_PROFILE: "score profile",
    promotion.OF_TARGET: "device whose times decided",
    promotion.OF_RUNTIME: "runtime there",
    promotion.OF_THREADS: "threads there",
    promotion.TRAIN_TIME_NOTE: "training time",
    promotion.REPLACED: "replaced",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The contents of the card of a registered version.

    cell, result: of the version. tags: the version's, with the reasons of its promotion. labels: in the order of the
    logits. sha256: of the exported model. output: the type of its logits, in words. program, program_for: the text
    of PROGRAM, and its runtime in words.
    """

    name: str
    number: str
    cell: RecordedCell
    result: CellResult
    tags: Mapping[str, str]
    labels: Sequence[str]
    sha256: str
    output: str
    program: str
    program_for: str


def title(name: str) -> str:
    """The card's first line, which identifies a folder as an earlier pull of the same model."""
    return f"# {name}"


def card(facts: Facts) -> str:
    """The whole card."""
    sections = {
        "Use": _use(facts),
        "Data": _data(facts),
        "Training": _training(facts),
        "Measured": _measured(facts),
        **({"On devices": devices} if (devices := _devices(facts)) else {}),
        "Why it was promoted": _promotion(facts),
        "Limits": _limits(facts),
        "Licence of the weights": _licence(facts),
    }
    head = [title(facts.name), "", f"Version {facts.number}: `{facts.result.name}`, seed {facts.result.seed}."]
    head += ["", f"MLflow run `{facts.cell.run_id}`, `{MODEL}` SHA-256 `{facts.sha256}`."]
    body = [f"\n## {heading}\n\n{text}" for heading, text in sections.items()]
    return "\n".join([*head, *body]) + "\n"


def code(text: str) -> str:
    """Text in a code span of markdown, with the blanks at its ends."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    # Markdown removes one blank at both ends.
    blank = " " if text[0] in " `" or text[-1] in " `" else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def _use(facts: Facts) -> str:
    _, height, width, _ = facts.cell.test_shape
    size = facts.cell.setting("model.input_size")
    resized = "resizing, " if facts.cell.params["model._target_"].endswith("KerasFile") else ""
    resized = f"resizing to {size} pixels, " if size else resized
    return "\n".join(
        [
            f"Classifies an image as one of {len(facts.labels)} classes, one image a call. Input: raw RGB pixels "
            f"0..255 of {height} x {width} x 3, channels last; preprocessing ({resized}scaling) is in the graph. "
            f"Output: one logit a class, {facts.output}, in the order of `{LABELS}`; softmax makes uncalibrated "
            "probabilities of logits.",
            "",
            f"Classes: {', '.join(map(code, facts.labels))}.",
            "",
            f"`{PROGRAM}` classifies image files, {facts.program_for}. It reads them as `dataset=folder` does:",
            "",
            f"```python\n{facts.program}```",
        ]
    )


def _data(facts: Facts) -> str:
    params = _part(facts.cell.params, "dataset")
    trained, tested = facts.cell.training_shape[0], facts.cell.test_images
    rows = [
        ("dataset", plain(facts.result.dataset)),
        (
            "training images",
            f"{trained:,}, without those held out for validation; digest `{facts.cell.training_digest}`",
        ),
        ("test images", f"{tested:,}, {_seen(facts)}; digest `{facts.cell.digest}`"),
        ("settings", _listed(params)),
    ]
    return markdown([HEADING, *rows])


def _training(facts: Facts) -> str:
    result, params, timing = facts.result, facts.cell.params, facts.result.timing
    rows = [
        ("network", f"{plain(result.model)} from {_start(params)}: {_listed(_part(params, 'model'))}"),
        ("technique", f"{result.technique}: {_listed(_part(params, 'technique')) or 'nothing to set'}"),
        ("training", _listed(_part(params, "training"))),
        ("seed", f"{result.seed}, deterministic={params.get('deterministic', 'False')}"),
        ("its own training", f"{len(result.epochs)} epochs, {seconds(timing.train_s)}"),
        ("training before it", _earlier(timing)),
    ]
    rows += [("teacher or donor", plain(facts.cell.source))] if facts.cell.source else []
    if result.comparison is not None:
        rows.append(("baseline", "the same network, data, settings and seed under the technique `baseline`"))
    return markdown([HEADING, *rows])


def _seen(facts: Facts) -> str:
    """Which of the test images are known to be among others, and what is known of the rest."""
    unseen = _unseen(facts.cell.params)
    found = facts.result.duplicates
    return f"{found}; the others {unseen}" if found else unseen


def _unseen(params: Mapping[str, str]) -> str:
    """What is known about the test images: how a file, a run or a donor on other data was trained is not."""
    fields = ("model.weights", "model.path", ".source.uri", ".source.dataset.name")
    starts = {value for name, value in params.items() if name.endswith(fields)} - {"None"}
    if not starts:
        return "never trained on"
    if starts == {"imagenet"}:
        return "never trained on, unless they are among those of ImageNet, whose weights it starts from"
    return "not trained on by this cell; whether the training that it starts from or learns from used them is not known"


def _start(params: Mapping[str, str]) -> str:
    """Where the network's first weights are from, with a file's SHA-256."""
    weights = params.get("model.weights", params.get("model.path", "None"))
    known = {"imagenet": "ImageNet weights", "None": "random weights"}
    hashed = f" (SHA-256 `{params[FILE_HASH]}`)" if FILE_HASH in params else ""
    return known.get(weights) or f"the file {code(Path(weights).name)}{hashed}"


def _earlier(timing: Timing) -> str:
    """The training of the cells that it starts from, and of weights that came trained."""
    if timing.train_total_s is None:
        return UNKNOWN
    earlier_s = timing.train_total_s - timing.train_s
    return seconds(earlier_s) if earlier_s > 0 else "none, it starts from no cell"


def _measured(facts: Facts) -> str:
    m, complexity = facts.result.measurement, facts.result.complexity
    low, high = wilson(m.correct, m.test_images)
    rows = [
        (
            "accuracy",
            f"{percent(m.accuracy)}, 95% interval {percent(low)} to {percent(high)} ({m.correct} of "
            f"{m.test_images:,} right)",
        ),
        # Of five classes, one of five answers is always right.
        *([("top-5 accuracy", percent(m.top5_accuracy))] if len(facts.labels) > 5 else []),
        (
            "latency of one image",
            ", ".join(
                f"{milliseconds(value)} ({name})"
                for name, value in {"p50": m.p50_ms, "p90": m.p90_ms, "p99": m.p99_ms}.items()
                if value is not None
            ),
        ),
        ("throughput, all cores", f"{m.images_per_s:,.0f} images/s"),
        ("loading, first call", f"{m.load_ms:.3g} ms, {m.first_call_ms:.3g} ms (one reading each)"),
        ("file", f"{m.file_bytes:,} bytes, {m.compressed_bytes:,} after DEFLATE"),
        ("parameters, MACs", f"{complexity.parameters:,}, {complexity.macs:,}"),
        ("zeros among the weights", f"{complexity.sparsity:.1%}"),
    ]
    rows += _baseline(facts.result.comparison) if facts.result.comparison else []
    hardware = _listed({key: _text(value) for key, value in facts.result.hardware.items()})
    how = _listed(_part(facts.cell.params, "measurement"))
    notes = "".join(f"\n\n{plain(note)}" for note in facts.result.notes)
    return f"{markdown([HEADING, *rows])}\n\nBy LiteRT ({how}), on: {hardware}.{notes}"


def _baseline(comparison: BaselineComparison) -> list[tuple[str, str]]:
    low, high = comparison.ratio_low, comparison.ratio_high
    ratio = f"x {comparison.latency_ratio:.3f}, 95% of repeats give {low:.3f} to {high:.3f}"
    file = f"{comparison.baseline_file_bytes:,} bytes, {comparison.baseline_compressed_bytes:,} after DEFLATE"
    accuracy = f"{percent(comparison.baseline_accuracy)}, McNemar test p = {comparison.accuracy_p_value:.3g}"
    return [
        ("undisturbed latency over the baseline's, timed in turns", ratio),
        ("baseline's accuracy", accuracy),
        ("baseline's file", file),
    ]


def _devices(facts: Facts) -> str:
    """Times by device, runtime and number of threads, and the fastest of each device; empty where none was measured."""
    found = figures(facts.cell.metrics, facts.cell.on_devices)
    heading = (
        "device",
        "runtime",
        "version",
        "threads",
        "computes in",
        "p50 ms",
        "95% of repeats",
        "same class",
        "valid",
    )
    rows = [
        (
            plain(one.target),
            one.runtime,
            one.tags.get(VERSION, "") or "-",
            str(threads),
            one.tags.get(PRECISION, "") or "-",
            three_digits(value),
            f"{three_digits(low)} to {three_digits(high)}",
            "-" if one.agreement is None else percent(one.agreement),
            "yes" if one.is_reliable(threads) and one.same_answers else "INVALID",
        )
        for one in found
        for threads in one.threads
        for value, low, high in (one.p50_ms(threads),)
    ]
    if not rows:
        return ""
    lines = [_fastest(target, [one for one in found if one.target == target]) for target in _targets(found)]
    return "\n\n".join(
        [
            markdown([heading, *rows]),
            "Measured by `opscore measure`: all models of a session take turns, in several windows and processes. "
            "“Same class” is the share of images with the class that LiteRT gives.",
            *_invalid(found),
            *lines,
        ]
    )


def _invalid(found: Sequence[Figures]) -> list[str]:
    """Why figures do not count."""
    reasons = {f"{one.runtime} on {plain(one.target)}": one.tags.get(INVALID, NOT_INVALID) for one in found}
    return [f"INVALID, {name}: {plain(reason)}." for name, reason in reasons.items() if reason != NOT_INVALID]


def _targets(found: Sequence[Figures]) -> list[str]:
    return sorted({one.target for one in found})


def _fastest(target: str, found: Sequence[Figures]) -> str:
    best = fastest(found)
    recorded = (one.tags[HARDWARE] for one in (*(best[:1] if best else ()), *found) if HARDWARE in one.tags)
    hardware = json.loads(next(recorded, "{}"))
    # LiteRT's version, whatever the runtime.
    hardware.pop("runtime", None)
    machine = f" ({_listed({key: _text(value) for key, value in hardware.items()})})" if hardware else ""
    if best is None:
        return f"On {plain(target)}{machine}, no runtime gives LiteRT's answers."
    one, threads = best
    return f"Fastest on {plain(target)}: **{one.runtime}** with {number_of(threads, 'thread')}{machine}."


def _promotion(facts: Facts) -> str:
    total, terms = _score(facts)
    names = {"accuracy": "accuracy", "size": "size", "test_time": "testing time", "train_time": "training time"}
    # Where it is known, it does not compare with the other candidates', as the tag `train_time_note` says.
    why = ", as it is unknown" if facts.result.timing.train_total_s is None else ""
    parts = [f"{name} {terms[key]:+.2f}" if key in terms else f"{name} left out{why}" for key, name in names.items()]
    rows = [
        ("operational score", f"{total:.1f} dB: {', '.join(parts)}"),
        *((heading, plain(facts.tags[key])) for key, heading in CARD_TAGS.items() if key in facts.tags),
        *(
            (f"gate: {key.removeprefix(promotion.GATE)}", plain(value))
            for key, value in facts.tags.items()
            if key.startswith(promotion.GATE)
        ),
    ]
    return markdown([HEADING, *rows])


def _score(facts: Facts) -> tuple[float, dict[str, float]]:
    """The score that decided and its terms: as tagged, perhaps by a device's times, else those of its own run."""
    if SCORE in facts.tags:
        known = {name: facts.tags.get(term_of(name)) for name in CRITERIA}
        return float(facts.tags[SCORE]), {name: float(text) for name, text in known.items() if text is not None}
    terms = asdict(facts.result.score)
    if facts.result.timing.train_total_s is None:
        del terms[TRAIN_TIME]
    return facts.result.score.total, terms


def _limits(facts: Facts) -> str:
    limits = {name: facts.cell.setting(f"dataset.{name}") for name in ("limit_train", "limit_test")}
    used = {name: value for name, value in limits.items() if value is not None}
    lines = [
        "It was chosen among several models by its results on the same test images, so its accuracy there is a little "
        "optimistic; the interval does not include that.",
        *([f"At most so many images of the dataset were used: {_listed(used)}."] if used else []),
        "It is the network of one seed: another seed gives another accuracy.",
        "It was tested on this dataset only: not on images of other sources or sizes, nor on damaged or adversarial "
        "images. It assigns one of its classes to every image, also to one that shows none of them.",
        "Accuracy by group of people and calibration were not examined. Recall and precision of each class are in the "
        "run's artifact `classes.json`.",
        "Times are valid for the machines above only.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _licence(facts: Facts) -> str:
    lines = [f"- {one}" for one in of_weights(facts.cell.params)]
    return "\n".join([*lines, "- The training images have their own terms, which are not known here."])


def _part(params: Mapping[str, str], group: str) -> dict[str, str]:
    """The values that are set in one configuration group, without the places of code and data."""
    chosen = {key.removeprefix(f"{group}."): value for key, value in params.items() if key.startswith(f"{group}.")}
    places = ("_target_", "data_dir", "path")
    return {key: value for key, value in chosen.items() if key.rpartition(".")[2] not in places and value != "None"}


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={plain(str(value))}" for key, value in settings.items())


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
