"""Comparisons by the times of a device."""

import math
from dataclasses import replace

import pytest

from pipelines.comparison.notes import notes
from pipelines.comparison.on_device import Device, hint, timed
from pipelines.comparison.pages import table
from pipelines.comparison.ranking import compare
from pipelines.comparison.shortlist import shortlist
from pipelines.comparison.shortlist_text import runtimes
from pipelines.results.recorded_cell import RecordedCell
from tests.comparison.recorded import recorded

PI = Device(target="pi")


def on(cell: RecordedCell, place: str, ms: float, *, ratio: float | None = None, **more: float) -> RecordedCell:
    """With a median of 1 thread, the ratio to the session's reference, and other figures, with intervals of 10%."""
    own = {"p50_ms_1t": ms, "p50_low_ms_1t": ms / 1.1, "p50_high_ms_1t": ms * 1.1} | more
    if ratio is not None:
        own |= {"ratio_1t": ratio, "ratio_low_1t": ratio / 1.1, "ratio_high_1t": ratio * 1.1}
    metrics = cell.metrics | {f"measure/{place}/{name}": value for name, value in own.items()}
    return replace(cell, metrics=metrics, on_devices={f"measure/{place}/reference": "litert"} | dict(cell.on_devices))


def pair(**settings: object) -> tuple[RecordedCell, RecordedCell]:
    """A baseline and its int8 cell, 2 and 1 ms on LiteRT, 0.9 and 1.5 ms on OpenVINO."""
    base = replace(recorded("baseline", **settings), fingerprint="base")  # type: ignore[arg-type]
    int8 = replace(recorded("quantize_int8", megabytes=0.3, **settings), baseline="base")  # type: ignore[arg-type]
    base = on(on(base, "pi/litert", 2.0), "pi/openvino", 0.9, ratio=0.45)
    return base, on(on(int8, "pi/litert", 1.0, ratio=0.5), "pi/openvino", 1.5, ratio=0.75)


def by_technique(cells: tuple[RecordedCell, ...]) -> dict[str, RecordedCell]:
    return {cell.technique: cell for cell in cells}


def test_each_cell_on_its_fastest_runtime() -> None:
    found = by_technique(timed(pair(), PI).cells)
    base, int8 = found["baseline"], found["quantize_int8"]
    assert base.device is not None and int8.device is not None
    assert (base.device.runtime, int8.device.runtime) == ("openvino", "litert")
    assert (base.metrics["time/test_ms_p50"], int8.metrics["time/test_ms_p50"]) == (0.9, 1.0)
    assert int8.device.times_ms == {"litert": 1.0, "openvino": 1.5}
    # Both ratios are to the baseline on LiteRT: 0.5 over 0.45.
    assert int8.metrics["baseline/time_ratio"] == pytest.approx(0.5 / 0.45)
    half = math.sqrt(2) * math.log(1.1)
    assert int8.metrics["baseline/time_ratio_low"] == pytest.approx(0.5 / 0.45 * math.exp(-half))
    assert int8.metrics["baseline/time_ratio_high"] == pytest.approx(0.5 / 0.45 * math.exp(half))


def test_runtime_is_a_column_where_cells_have_several() -> None:
    (both,) = compare(timed(pair(), PI).cells)
    (column,) = runtimes(both.entries)
    assert set(column.texts) == {"litert", "openvino"}
    base, int8 = recorded("baseline"), recorded("quantize_int8")
    alone = (
        on(replace(base, fingerprint="base"), "pi/litert", 2.0),
        on(replace(int8, baseline="base"), "pi/litert", 1.0, ratio=0.5),
    )
    found = timed(alone, PI)
    assert not [column for one in compare(found.cells) for column in runtimes(one.entries)]
    assert found.notes[0].endswith("by its fastest runtime with 1 thread: litert.")


def test_scores_are_those_of_the_device() -> None:
    before = by_technique(pair(test_ms=8.0))
    after = by_technique(timed(pair(test_ms=8.0), PI).cells)
    for name, ms in (("baseline", 0.9), ("quantize_int8", 1.0)):
        change = -5 * math.log10(ms) + 5 * math.log10(8.0)
        assert after[name].metrics["score/operational"] == pytest.approx(
            before[name].metrics["score/operational"] + change
        )
    gained = after["quantize_int8"].metrics
    assert gained["score/gain_test_time_db"] == pytest.approx(-5 * math.log10(0.5 / 0.45))
    parts = [value for name, value in gained.items() if name.startswith("score/gain_") and name != "score/gain_db"]
    assert gained["score/gain_db"] == pytest.approx(sum(parts))


def test_one_runtime_and_one_number_of_threads() -> None:
    cells = tuple(on(cell, "pi/openvino", 3.0) for cell in pair())
    found = by_technique(timed(cells, Device(target="pi", runtime="openvino")).cells)
    assert {cell.device.runtime for cell in found.values() if cell.device} == {"openvino"}
    # 0.75 over 0.45, whatever the medians are.
    assert found["quantize_int8"].metrics["baseline/time_ratio"] == pytest.approx(0.75 / 0.45)


def with_references(cell: RecordedCell, **runtimes: str) -> RecordedCell:
    return replace(cell, on_devices={f"measure/pi/{name}/reference": of for name, of in runtimes.items()})


def test_ratio_counts_only_against_its_own_reference() -> None:
    base, int8 = pair()
    # A later session had OpenVINO first, so LiteRT's ratio of the baseline is to the baseline on OpenVINO.
    metrics = {name: value for name, value in base.metrics.items() if "/ratio" not in name}
    later = on(replace(base, metrics=metrics), "pi/litert", 2.0, ratio=2.2)
    told = with_references(int8, litert="litert", openvino="litert")
    (_, found) = timed((with_references(later, litert="openvino", openvino="openvino"), told), PI).cells
    assert found.metrics["baseline/time_ratio"] == pytest.approx(1.0 / 0.9)
    (_, found) = timed((with_references(base, litert="litert", openvino="litert"), told), PI).cells
    assert found.metrics["baseline/time_ratio"] == pytest.approx(0.5 / 0.45)


def test_older_record_of_a_baseline_has_the_figures() -> None:
    base, int8 = pair()
    newer = replace(recorded("baseline"), run_id="newer", fingerprint="base", started=base.started + 1)
    found = timed((int8, base, newer), PI)
    assert {cell.technique for cell in found.cells} == {"baseline", "quantize_int8"}
    assert found.cells[0].metrics["baseline/time_ratio"] == pytest.approx(0.5 / 0.45)
    # The newer run is the same cell, and no other that is missing.
    assert len(found.notes) == 1


def test_older_runs_of_a_cell_choose_no_runtime() -> None:
    base, int8 = pair()
    # Measured by LiteRT alone, and trained anew since then.
    old = on(replace(int8, run_id="old", started=-2, metrics=recorded("quantize_int8").metrics), "pi/litert", 9.0)
    never = replace(recorded("quantize_int8"), run_id="never", started=-1, baseline="base")
    newer = on(int8, "pi/openvino", 0.4, ratio=0.2)
    assert timed((base, newer), PI) == timed((base, old, never, newer), PI)
    (cell,) = [one for one in timed((old, never, newer), PI, baselines=(base,)).cells]
    assert cell.run_id == int8.run_id and cell.device is not None and cell.device.runtime == "openvino"
    # Another score profile is another comparison.
    budget = replace(old, params=old.params | {"score.max_size_mb": "1"})
    assert len(timed((base, budget, newer), PI).cells) == 3


def test_a_baseline_of_other_libraries_takes_no_ones_place() -> None:
    base, int8 = pair()
    # Run again after an upgrade: the same settings, another fingerprint, by which no older cell names it.
    upgraded = replace(base, run_id="upgraded", fingerprint="another", started=base.started + 1)
    assert {cell.run_id for cell in timed((base, int8, upgraded), PI).cells} == {
        base.run_id, int8.run_id, "upgraded",
    }  # fmt: skip
    (champion,) = timed((int8,), PI, (base, upgraded)).cells
    assert champion.run_id == int8.run_id


def test_the_advice_to_measure_keeps_other_threads() -> None:
    base, int8 = pair()
    four = [on(cell, "pi/litert", 3.0) for cell in (base, int8)]
    four = [
        replace(
            cell, metrics={name.replace("_1t", "_4t"): value for name, value in cell.metrics.items()} | cell.metrics
        )
        for cell in four
    ]
    note = timed((*four, recorded("cluster")), Device(target="pi", threads=4)).notes[-1]
    assert "`opscore measure --target pi --threads 1,4` adds them" in note


def test_the_devices_options_are_those_of_a_shell() -> None:
    assert (
        Device(target="my pi", runtime="litert", threads=4).options == " --target 'my pi' --runtime litert --threads 4"
    )
    assert PI.options == " --target pi"
    assert (
        Device(target="my pi", place=" --experiment a").command() == "opscore measure --target 'my pi' --experiment a"
    )


def test_training_times_of_two_machines_are_left_out() -> None:
    base, int8 = pair()
    laptop, gpu = (replace(base, metrics=base.metrics | {"time/train_total_s": 600.0}), replace(int8, hardware="a GPU"))
    found = timed((laptop, gpu), PI)
    (comparison,) = compare(found.cells)
    assert all("train_time" not in entry.terms for entry in comparison.entries)
    assert any("were trained on different machines (a CPU or a GPU)" in note for note in notes(comparison))
    scores = [entry.score.value - sum(entry.terms.values()) for entry in comparison.entries]
    assert max(scores) - min(scores) == pytest.approx(0, abs=1e-9)


def test_baseline_that_was_not_chosen() -> None:
    base, int8 = pair()
    (found,) = timed((int8,), PI, baselines=[base]).cells
    assert found.metrics["baseline/time_ratio"] == pytest.approx(0.5 / 0.45)
    with pytest.raises(ValueError, match=r"no cell can be compared on pi.*the baseline has no figures there"):
        timed((int8,), PI)


def test_seeds_of_a_cell_run_on_one_runtime() -> None:
    first, second = pair(seed=0), pair(seed=1)
    # OpenVINO is faster for one seed, LiteRT for the mean of both.
    faster = on(second[1], "pi/openvino", 0.9, ratio=0.45)
    found = timed((*first, second[0], faster), PI).cells
    assert [cell.device.runtime for cell in found if cell.technique != "baseline" and cell.device] == ["litert"] * 2
    (comparison,) = compare(found)
    assert {entry.technique: entry.runtime for entry in comparison.entries} == {
        "baseline": "openvino",
        "quantize_int8": "litert",
    }


def test_runtime_with_other_answers_is_not_chosen() -> None:
    base, int8 = pair()
    changed = on(base, "pi/openvino", 0.9, ratio=0.45, agreement=0.9, agreement_changed=0.05)
    found = timed((changed, int8), PI)
    assert {cell.device.runtime for cell in found.cells if cell.device} == {"litert"}
    only = timed((changed, int8), Device(target="pi", runtime="litert"))
    assert len(only.cells) == 2
    # On OpenVINO the int8 cell has no baseline left.
    with pytest.raises(ValueError, match="openvino changes the answers of vgg16-cifar10-baseline"):
        timed((changed, int8), Device(target="pi", runtime="openvino"))


def test_unreliable_times_count_and_are_named() -> None:
    base, int8 = pair()
    found = timed((on(base, "pi/openvino", 0.9, ratio=0.45, valid_1t=0.0), int8), PI)
    assert by_technique(found.cells)["baseline"].metrics["time/test_ms_p50"] == 0.9
    assert "The times of 1 of 2 runs (vgg16-cifar10-baseline) are INVALID there" in found.notes[-1]
    # Only with 2 threads, whatever the session says of all.
    others = on(base, "pi/openvino", 0.9, ratio=0.45, valid=0.0, valid_1t=1.0, valid_2t=0.0)
    assert len(timed((others, int8), PI).notes) == 1


def test_times_of_two_sessions_are_named() -> None:
    base, int8 = pair()
    places = ("pi/litert", "pi/openvino")

    def began(cell: RecordedCell, second: str) -> RecordedCell:
        tags = {f"measure/{place}/began": second for place in places}
        return replace(cell, on_devices={**cell.on_devices, **tags})

    first, later = began(base, "100"), began(int8, "200")
    assert len(timed((first, began(int8, "100")), PI).notes) == 1
    assert "The times are from 2 sessions" in timed((first, later), PI).notes[1]


def test_findings_on_litert_are_of_cells_on_litert() -> None:
    cells = tuple(replace(cell, delegated='{"partitions": 1, "undelegated": {}, "int16": 0}') for cell in pair())
    slow = on(on(cells[1], "pi/litert", 3.0, ratio=1.5), "pi/openvino", 2.5, ratio=1.2)

    def is_explained(device: Device) -> bool:
        (comparison,) = compare(timed((cells[0], slow), device).cells)
        return any("LiteRT's accelerated delegate" in note for note in notes(comparison))

    assert is_explained(Device(target="pi", runtime="litert"))
    assert not is_explained(PI)


def test_table_of_a_page_names_device_and_runtimes() -> None:
    text = table(timed(pair(), PI).cells)
    assert text.splitlines()[0].endswith("| runtime |")
    assert any(line.startswith("| `baseline`") and line.endswith("| openvino |") for line in text.splitlines())
    assert "Times are those on pi with 1 thread." in text
    assert "runtime" not in table(pair())


def test_equal_times_are_litert_s() -> None:
    base, int8 = pair()
    found = by_technique(timed((on(base, "pi/openvino", 1.97, ratio=0.985), int8), PI).cells)
    assert found["baseline"].device is not None and found["baseline"].device.runtime == "litert"
    assert found["baseline"].metrics["time/test_ms_p50"] == 2.0


def test_budgets_are_those_of_the_device() -> None:
    limits = {"score.max_test_ms": "0.95", "score.min_speedup": "None"}
    found = by_technique(timed(pair(params=limits, feasible=False), PI).cells)
    assert (found["baseline"].feasible, found["quantize_int8"].feasible) == (True, False)
    goals = {"score.min_speedup": "1.1"}
    litert = Device(target="pi", runtime="litert")
    assert by_technique(timed(pair(params=goals), litert).cells)["quantize_int8"].feasible
    assert not by_technique(timed(pair(params=goals), PI).cells)["quantize_int8"].feasible


def test_cells_of_two_machines_compare_on_one_device() -> None:
    base, int8 = pair()
    cells = (replace(base, hardware="a server"), replace(int8, params=int8.params | {"measurement.threads": "4"}))
    assert len(compare(cells)) == 2
    (comparison,) = compare(timed(cells, PI).cells)
    assert comparison.hardware == "pi"


def test_shortlist_depends_on_the_runtime() -> None:
    def fastest(device: Device) -> str:
        (comparison,) = compare(timed(pair(), device).cells)
        found = shortlist(comparison)
        assert found is not None
        return found.fastest.technique

    assert fastest(Device(target="pi", runtime="litert")) == "quantize_int8"
    assert fastest(PI) == "baseline"


def test_cells_without_figures_are_left_out() -> None:
    base, int8 = pair()
    other = recorded("cluster")
    found = timed((base, int8, other, recorded("prune")), PI)
    assert {cell.technique for cell in found.cells} == {"baseline", "quantize_int8"}
    assert found.notes[1] == ("2 cells are left out, as figures are missing: `opscore measure --target pi` adds them.")
    device = Device(target="pi", runtime="openvino", threads=1)
    assert "`opscore measure --target pi --runtimes openvino`" in timed((base, int8, other), device).notes[1]
    assert Device(target="pi", threads=4).command() == "opscore measure --target pi --threads 4"


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        (Device(target="lap-top"), r"target must be one of laptop, pi, .* got 'lap-top': .*--target laptop$"),
        (
            Device(target="pi", runtime="onnx"),
            r"runtime must be one of litert, openvino, .* got 'onnx': .*litert$",
        ),
        (Device(target="pi", threads=8), r"threads must be one of 1, .* got 8: set for example --threads 1$"),
    ],
)
def test_unknown_names_are_refused(device: Device, sentence: str) -> None:
    base, int8 = pair()
    with pytest.raises(ValueError, match=sentence):
        timed((on(base, "laptop/litert", 1.0), int8), device)


def test_no_device_at_all() -> None:
    with pytest.raises(ValueError, match=r"measure them with `opscore measure --target pi`$"):
        timed((recorded("baseline"),), PI)
    assert hint([recorded("baseline")]) is None
    assert hint(pair()) == (
        "`opscore measure` measured such cells on pi (litert, openvino): --target pi decides by the times there."
    )


def test_missing_threads_are_not_blamed_on_another_runtime() -> None:
    base, int8 = pair()
    # LiteRT has figures with one thread only, OpenVINO with two, but with other answers.
    two = {f"measure/pi/{name}_2t": 1.0 for name in ("litert/p50_ms", "openvino/p50_ms")}
    base = replace(base, metrics=base.metrics | two)
    changed = {"measure/pi/openvino/agreement_changed": 0.5, "measure/pi/openvino/p50_ms_1t": 1.0}
    int8 = on(replace(recorded("quantize_int8"), baseline="base"), "pi/litert", 1.0, ratio=0.5)
    int8 = replace(int8, metrics=int8.metrics | changed)
    (_, note) = timed((base, int8), Device(target="pi", threads=2)).notes
    assert "figures are missing: `opscore measure --target pi --threads 1,2` adds them" in note


def test_busier_session_moves_no_cell() -> None:
    """Of a cell of a quiet session, the ratio counts, and not the time next to that of a busy one."""
    base, int8 = pair()
    qat = on(replace(recorded("qat", megabytes=0.3), baseline="base"), "pi/litert", 2.7, ratio=0.45)
    sessions = ((on(base, "pi/litert", 6.0), "2"), (int8, "1"), (qat, "2"))
    busy, int8, qat = (
        replace(cell, on_devices={**cell.on_devices, "measure/pi/litert/began": second}) for cell, second in sessions
    )
    found = by_technique(timed((busy, int8, qat), Device(target="pi", runtime="litert")).cells)
    assert found["qat"].metrics["time/test_ms_p50"] == pytest.approx(2.7)
    assert found["quantize_int8"].metrics["time/test_ms_p50"] == pytest.approx(3.0)
    for cell in (found["qat"], found["quantize_int8"]):
        gain = cell.metrics["score/operational"] - found["baseline"].metrics["score/operational"]
        assert cell.metrics["score/gain_db"] == pytest.approx(gain)
    assert "The times are from 2 sessions" in timed((busy, int8, qat), Device(target="pi", runtime="litert")).notes[1]


def test_baseline_of_former_libraries_chooses_no_runtime() -> None:
    base, int8 = pair()
    former = replace(on(recorded("baseline"), "pi/litert", 2.0), fingerprint="former", run_id="former", started=-1)
    assert timed((former, base, int8), PI).cells[1:] == timed((base, int8), PI).cells


def test_older_training_that_counts_is_named() -> None:
    base, int8 = pair()
    newer = replace(recorded("quantize_int8", accuracy=0.9, started=9), baseline="base", fingerprint="newer")
    found = timed((base, int8, newer), PI)
    assert by_technique(found.cells)["quantize_int8"].accuracy == 0.8
    assert "Of vgg16-cifar10-quantize_int8 an older run counts, as the newest has no figures" in found.notes[-1]
    # The same exported model, measured anew for another limit.
    assert len(timed((base, int8, replace(newer, fingerprint=int8.fingerprint)), PI).notes) == 1


def test_a_score_is_the_baselines_plus_the_gain_in_one_session() -> None:
    """The median of the cell is of a busy minute; the ratio is not."""
    base, int8 = pair()
    busy = on(int8, "pi/litert", 1.6, ratio=0.5)
    found = by_technique(timed((base, busy), Device(target="pi", runtime="litert")).cells)
    assert found["quantize_int8"].metrics["time/test_ms_p50"] == pytest.approx(2.0 * 0.5)
    scores = [found[name].metrics["score/operational"] for name in ("quantize_int8", "baseline")]
    assert scores[0] - scores[1] == pytest.approx(found["quantize_int8"].metrics["score/gain_db"])


def test_the_runtime_is_the_fastest_by_ratio() -> None:
    """Its median by LiteRT is of a busy minute."""
    base, int8 = pair()
    busy = on(on(int8, "pi/litert", 1.6, ratio=0.5), "pi/openvino", 1.5, ratio=0.75)
    cell = by_technique(timed((base, busy), PI).cells)["quantize_int8"]
    assert cell.device is not None and cell.device.runtime == "litert"
    # The baseline's 0.9 ms by 0.45 of the reference: both are of one minute then.
    assert cell.device.times_ms == {"litert": pytest.approx(1.0), "openvino": pytest.approx(1.5)}


def test_ratios_and_milliseconds_are_not_added() -> None:
    """Of one seed, a later session measured OpenVINO with another reference."""
    cells = []
    for seed, openvino in ((0, 36.0), (1, 28.0)):
        base, int8 = pair(seed=seed)
        base, int8 = replace(base, fingerprint=f"base{seed}"), replace(int8, baseline=f"base{seed}")
        base = on(on(base, "pi/litert", 60.0), "pi/openvino", 60.0, ratio=1.0)
        int8 = on(on(int8, "pi/litert", 30.0, ratio=0.5), "pi/openvino", openvino, ratio=0.6)
        cells += [base, int8]
    tags = {**cells[3].on_devices, "measure/pi/openvino/reference": "openvino"}
    cells[3] = replace(cells[3], on_devices=tags)
    found = [cell for cell in timed(cells, PI).cells if cell.technique == "quantize_int8"]
    # 30 and 32 ms in the mean.
    assert [cell.device and cell.device.runtime for cell in found] == ["litert", "litert"]


def test_versions_of_a_runtime_are_named() -> None:
    base, int8 = pair()
    both = [
        replace(cell, on_devices={**cell.on_devices, "measure/pi/litert/version": version})
        for cell, version in ((base, "ai-edge-litert 2.2.0"), (int8, "ai-edge-litert 2.3.0"))
    ]
    device = replace(PI, runtime="litert")
    assert any(
        "different versions of a runtime (ai-edge-litert 2.2.0 and ai-edge-litert 2.3.0)" in note
        for note in timed(both, device).notes
    )
    assert not any("versions" in note for note in timed([both[0], replace(int8)], device).notes)


def test_findings_of_another_processor_are_left_out() -> None:
    base, int8 = pair()
    delegated = '{"partitions": 1, "undelegated": {}, "int16": false}'
    metrics = {**int8.metrics, "model/delegate_partitions": 1.0, "model/undelegated_operators": 0.0}
    int8 = replace(int8, delegated=delegated, metrics=metrics)
    device = replace(PI, runtime="litert")
    for outside, kept in ((0.0, delegated), (14.0, "")):
        own = on(int8, "pi/litert", 1.0, ratio=0.5, delegate_partitions=1.0, undelegated_operators=outside)
        assert by_technique(timed((base, own), device).cells)["quantize_int8"].delegated == kept
