"""The search space of the Pareto sweeper: overrides as Optuna's distributions.

The name begins with an underscore so that Hydra does not import this module at each start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Sweep, Transformer
from hydra.errors import CompactHydraException, HydraException

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Job = tuple[str, ...]  # the overrides of one trial
ALLOWED = (
    "a,b; choice(a,b); range(1,10,2); interval(0.3,0.9); int(interval(2,64)); tag(log, interval(1e-4,1e-2)); "
    "or one plain value"
)


@dataclass(frozen=True, kw_only=True)
class Knob:
    """What is drawn for one override: a number, or, with `values`, the index of one of them."""

    distribution: BaseDistribution
    values: tuple[Any, ...] = ()

    def value(self, drawn: Any) -> Any:
        """The drawn value as Hydra's grammar has it."""
        return self.values[drawn] if self.values else drawn


@dataclass(frozen=True, kw_only=True)
class Space:
    """The parts of all trials in the order given: knobs, and overrides that are the same in all trials."""

    parts: dict[str, Knob | str]

    @property
    def knobs(self) -> dict[str, Knob]:
        """The knobs by override."""
        return {key: part for key, part in self.parts.items() if isinstance(part, Knob)}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """For `study.ask`."""
        return {key: knob.distribution for key, knob in self.knobs.items()}

    def job(self, drawn: Mapping[str, Any]) -> Job:
        """The overrides of a trial."""
        return tuple(
            part if isinstance(part, str) else f"{key}={Transformer.str(part.value(drawn[key]))}"
            for key, part in self.parts.items()
        )

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The drawn values: numbers and truth values themselves, others as text of the command line."""
        return {key: Transformer.encode(knob.value(drawn[key])) for key, knob in self.knobs.items()}

    def samples(self) -> list[Job]:
        """Jobs that together contain every choice, to find choices that do not compose."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        def at(index: int, distribution: BaseDistribution) -> Any:
            if isinstance(distribution, CategoricalDistribution):
                return index % len(distribution.choices)
            assert isinstance(distribution, IntDistribution | FloatDistribution)
            # The bounds themselves may be excluded.
            middle = (distribution.low + distribution.high) / 2
            return int(middle) if isinstance(distribution, IntDistribution) else middle

        choices = [d for d in self.distributions.values() if isinstance(d, CategoricalDistribution)]
        count = max((len(choice.choices) for choice in choices), default=1)
        return [self.job({key: at(i, d) for key, d in self.distributions.items()}) for i in range(count)]


def space_of(lines: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """The search space of overrides. Of two overrides with one key, the later one counts.

    Raises CompactHydraException with one sentence if an override cannot be drawn from, or if nothing is drawn.
    """
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(lines))
    space = Space(parts={override.get_key_element(): _part(override) for override in overrides})
    if not space.knobs:
        raise CompactHydraException(f"at least one override must be drawn from, got none: add {ALLOWED}")
    return space


def _part(override: Override) -> Knob | str:
    if not override.is_sweep_override():
        assert override.input_line is not None
        return override.input_line
    try:
        knob = _knob(override)
        # Nothing is drawn from one value.
        return f"{override.get_key_element()}={Transformer.str(knob.value(0))}" if len(knob.values) == 1 else knob
    except (ValueError, HydraException) as error:
        raise CompactHydraException(
            f"{override.input_line} cannot be drawn from: {error}; allowed are {ALLOWED}"
        ) from error


def _knob(override: Override) -> Knob:
    """Raises ValueError or HydraException for no values, reversed bounds, or a tag without effect."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if isinstance(sweep, IntervalSweep):
        low, high, logarithmic = sweep.start, sweep.end, "log" in tags
        assert low is not None and high is not None
        if tags - {"log"}:
            raise ValueError("log is the only tag of an interval")
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"an interval must run from a lower to a higher number, got {low} to {high}")
        if logarithmic and low <= 0:
            raise ValueError(f"a logarithmic interval must begin above 0, got {low}")
        # Hydra's int(interval(...)) has integer bounds; all other intervals have floats.
        if isinstance(low, int) and isinstance(high, int):
            return Knob(distribution=IntDistribution(low, high, log=logarithmic))
        return Knob(distribution=FloatDistribution(low, high, log=logarithmic))
    if tags:
        raise ValueError("only an interval has a tag")
    # Duplicates would be drawn twice as often.
    values = tuple({Transformer.str(value): value for value in _listed(override)}.values())
    if not values:
        raise ValueError("it has no values")
    if isinstance(sweep, RangeSweep):
        return Knob(distribution=IntDistribution(0, len(values) - 1), values=values)
    return Knob(distribution=CategoricalDistribution(range(len(values))), values=values)


def _listed(override: Override) -> list[Any]:
    """The values of a grid, without a shuffle, whose order would change from start to start."""
    sweep = override.value()
    if isinstance(sweep, ChoiceSweep):
        return sweep.list
    if isinstance(sweep, RangeSweep):
        return list(sweep.range())
    return list(override.sweep_iterator())
