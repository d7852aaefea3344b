"""Why an exported model is not as fast as its technique promises, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.results.cell_result import CellResult, Delegation, Verdict

DELEGATE = "LiteRT's accelerated delegate (XNNPACK)"
INT16 = f"{DELEGATE} has no kernels for 16-bit activations, so LiteRT's own kernels run the whole model: slow"
NO_PART = f"{DELEGATE} runs no part of the model: slow"
SLOW_TYPES = f"{DELEGATE} runs the whole model: on this processor its quantized kernels are slower than its float ones"
DENSE = "LiteRT computes with every weight: zeros and shared values make the compressed file smaller, not faster"


def sentences(result: CellResult) -> list[str]:
    """What slows a cell's exported model, or why it is no faster than its baseline; for most, nothing."""
    compared = result.comparison
    time = compared.test_time if compared else None
    delegation = result.delegation
    found = (outside([delegation] if delegation else []), no_faster(result.technique, time, delegation))
    return [f"{finding}." for finding in found if finding]


def outside(found: Sequence[Delegation]) -> str | None:
    """What several exported models, with the same kinds of operators outside the delegate, run there.

    Without a full stop. None where all of it is in the delegate, or nothing is known.
    """
    known = [one for one in found if one.undelegated]
    if not known:
        return None
    if not any(one.partitions for one in known):
        return INT16 if any(one.int16 for one in known) else NO_PART
    operators = ", ".join(f"{_range(one.undelegated[name] for one in known)} {name}" for name in known[0].undelegated)
    verb = "runs" if all(sum(one.undelegated.values()) == 1 for one in known) else "run"
    pieces = _range(one.partitions for one in known)
    split = "" if pieces == "1" else f", which splits the model into {pieces} parts"
    return f"{operators} {verb} outside {DELEGATE}{split}: slower than inside it"


def no_faster(technique: str, time: Verdict | None, found: Delegation | None) -> str | None:
    """Why a model is not faster than its baseline although the delegate runs all of it; None where it is, or may be.

    technique: its name. time: the verdict on testing. Pruning whole filters makes a smaller network, which is faster.
    """
    words = technique.split("_")
    if not {"prune", "cluster"}.isdisjoint(words) and "filters" not in words and time in ("tied", "worse"):
        return DENSE
    # Numbers of float16 are widened to those of its baseline.
    is_quantized = ("quantize" in words and "float16" not in words) or words[-1].endswith("qat")
    is_whole = found is not None and not found.undelegated
    return SLOW_TYPES if is_quantized and is_whole and time == "worse" else None


def _range(counts: Iterable[int]) -> str:
    values = set(counts)
    return str(*values) if len(values) == 1 else f"{min(values)} to {max(values)}"
