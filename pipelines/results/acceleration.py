"""Why an exported model is not as fast as its technique promises, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.results.records import CellResult, Delegation, Verdict

DELEGATE = "LiteRT's accelerated delegate (XNNPACK)"
INT16 = f"{DELEGATE} has no kernels for 16-bit activations, so LiteRT's own kernels run the whole model: slow"
NO_PART = f"{DELEGATE} runs no part of the model: slow"
DENSE = "LiteRT computes with every weight: zeros and shared values make the compressed file smaller, not faster"


def sentences(result: CellResult) -> list[str]:
    """What slows a cell's exported model, or why it is no faster than its baseline; for most, nothing."""
    time = result.comparison.time if result.comparison else None
    found = (outside([result.delegation] if result.delegation else []), no_faster(result.technique, time))
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


def no_faster(technique: str, time: Verdict | None) -> str | None:
    """Why a pruned or clustered model is not faster than its baseline; None where it is, or is neither.

    technique: its name. Pruning whole filters makes a smaller network, which is faster.
    """
    words = set(technique.split("_"))
    is_dense = not words.isdisjoint({"prune", "cluster"}) and "filters" not in words
    return DENSE if is_dense and time in ("tied", "worse") else None


def _range(counts: Iterable[int]) -> str:
    values = set(counts)
    return str(*values) if len(values) == 1 else f"{min(values)} to {max(values)}"
