"""The search space: what overrides are drawn from, and what is refused."""

import re
from importlib.util import find_spec
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException

from hydra_plugins._pareto_space import space_of

pytestmark = pytest.mark.skipif(find_spec("optuna") is None, reason="pip install -e '.[optuna]'")


@pytest.mark.parametrize(
    ("override", "kind", "low", "high", "below", "share"),
    [
        ("x=interval(2,64)", float, 2, 64, 33, 0.5),
        ("x=interval(0.3,0.9)", float, 0.3, 0.9, 0.6, 0.5),
        ("x=tag(log, interval(1e-4,1e-2))", float, 1e-4, 1e-2, 1e-3, 0.5),
        ("x=int(interval(1,4))", int, 1, 4, 2, 0.25),
        ("x=tag(log, int(interval(1,255)))", int, 1, 255, 16, 0.5),
        ("x=range(1,5)", int, 1, 4, 3, 0.5),
    ],
)
def test_numbers_are_drawn_uniformly(
    override: str, kind: type[int] | type[float], low: float, high: float, below: float, share: float
) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = space_of([override])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn: list[Any] = [space.values(study.ask(space.distributions).params)["x"] for _ in range(400)]
    assert all(type(value) is kind and low <= value <= high for value in drawn)
    assert sum(value < below for value in drawn) / 400 == pytest.approx(share, abs=0.08)
    if kind is int and high < 10:
        assert set(drawn) == set(range(int(low), int(high) + 1))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("x=interval(1,0)", "from a lower to a higher number, got 1.0 to 0.0"),
        ("x=interval(0,inf)", "from a lower to a higher number, got 0.0 to inf"),
        ("x=tag(log, interval(0,1))", "must begin above 0, got 0.0"),
        ("x=tag(lgo, interval(1,2))", "log is the only tag"),
        ("x=tag(log, range(1,9))", "only an interval has a tag"),
        ("x=range(5,1)", "it has no values"),
        ("x=range(1,5,0)", "arg 3 must not be zero"),
    ],
)
def test_invalid_overrides_are_refused(override: str, reason: str) -> None:
    with pytest.raises(CompactHydraException, match=re.escape(override)) as raised:
        space_of([override])
    assert reason in str(raised.value)
    assert "allowed are a,b; choice(a,b); range(1,10,2)" in str(raised.value)


def test_a_space_without_knobs_is_refused() -> None:
    with pytest.raises(CompactHydraException, match="at least one override must be drawn from, got none"):
        space_of(["x=1", "y=[1,2]", "~z"])


@pytest.mark.parametrize(
    "override", ["x=range(10,1,-3)", "x=range(0.1,0.5,0.1)", "x=a,'b c',null,true,[1,2]", "x=choice(1,2,1)"]
)
def test_listed_values_equal_those_of_a_grid(override: str) -> None:
    grid = list(OverridesParser.create().parse_override(override).sweep_string_iterator())
    space = space_of([override])
    count = len(space.knobs["x"].values)
    assert [space.job({"x": index}) for index in range(count)] == [(f"x={text}",) for text in dict.fromkeys(grid)]
