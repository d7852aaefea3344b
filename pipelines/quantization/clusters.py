"""Clusters that survive quantization: weights that share a value in the network share an integer in the file.

A clustered kernel holds a few values, its codebook. A batch normalization that is folded into it multiplies each filter
by a factor of its own, after which filters have no value in common. Quantization gives each filter a scale by its
largest weight, and with it other integers for the same entries of the codebook. With scales in proportion to those
factors instead, every filter has the same integers, and the file compresses to the bits of the codebook.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.flatbuffer import packed, parse
from pipelines.quantization.layers import with_kernels
from pipelines.quantization.weights import FILTERS, MAX_INT8, store, stored

# More values than that are no codebook.
MAX_VALUES = 256
# Share of a kernel's weights that differ from all others in their filter, above which it is not clustered.
MAX_DISTINCT = 0.95
# Relative, of a product of two numbers of float32 to the exact one, with a margin.
TOLERANCE = 1e-6
# In codes of 8 bits: how far a kernel in the file may be from the one that it was made of.
ROUNDING = 1.01
INT32_MAX = 2**31 - 1

# Of biases, by the number of the type in LiteRT's schema: INT32 and INT64.
_INTEGERS = {2: np.int32, 4: np.int64}

Kernel = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """values: (k,), sorted. factors: (filters,): the weights of a filter are its factor times some of the values."""

    values: npt.NDArray[np.float64]
    factors: npt.NDArray[np.float64]

    def places(self, kernel: Kernel) -> npt.NDArray[np.intp]:
        """For each weight that is not 0, the place of its value; (filters, weights)."""
        return _nearest(kernel / self.factors[:, None], self.values)


def codebook(kernel: Kernel) -> Codebook | None:
    """The values that all filters of a kernel (filters, weights) share up to a factor each; None if there are none.

    Of the values as they are and those with factors, it is what has fewer: a few filters with factors may have few
    values in all, and filters of few weights too little in common to tell their factors.
    """
    found = [book for book in (_as_they_are(kernel), _with_factors(kernel)) if book is not None]
    # So few weights for so many values show nothing.
    found = [book for book in found if 2 * len(book.values) <= kernel.size]
    return min(found, key=lambda book: len(book.values), default=None)


def _as_they_are(kernel: Kernel) -> Codebook | None:
    # Most kernels show in their first weights that they have more values, and 0 is none of them.
    if len(np.unique(kernel.reshape(-1)[: 4 * MAX_VALUES])) > MAX_VALUES + 1:
        return None
    values = np.unique(kernel[kernel != 0]).astype(np.float64)
    if not 0 < len(values) <= MAX_VALUES or len(values) > MAX_DISTINCT * np.count_nonzero(kernel):
        return None  # the second: few weights are left by pruning, all different
    return Codebook(values=values, factors=np.ones(len(kernel)))


def _with_factors(kernel: Kernel) -> Codebook | None:
    if len(np.unique(kernel[0])) > MAX_VALUES + 1:
        return None
    rows = [row[row != 0] for row in map(np.unique, kernel.astype(np.float64))]
    if sum(map(len, rows)) > MAX_DISTINCT * np.count_nonzero(kernel):
        return None  # as in every kernel that nobody clustered, for which what follows would take long
    first, *others = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    values, factors = rows[first], np.ones(len(rows))
    for number in others:
        if len(rows[number]):
            factors[number], missing = _fitted(rows[number], values)
            values = np.union1d(values, missing)
        if len(values) > MAX_VALUES:
            return None
    return Codebook(values=values, factors=factors) if len(values) else None


def _fitted(row: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
    """The factor by which most of a filter's values are in the codebook, and those that are then missing there."""
    largest = np.argmax(abs(row))
    # A filter's largest value is nearly always in the codebook; if it is not, another one tells the factor.
    for bases in (row[largest, None], row):
        factors = (bases[:, None] / values).reshape(-1)
        numbers = row / factors[:, None]
        found = abs(values[_nearest(numbers, values)] - numbers) <= TOLERANCE * abs(numbers)
        # A filter of few values fits several factors. A negative one would mirror its codes.
        best = int(np.argmax(found.sum(axis=1) + (factors > 0) / 2))
        if found[best].all():
            break
    return float(factors[best]), (row / factors[best])[~found[best]]


def _nearest(numbers: npt.NDArray[Any], values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The place of the nearest of the sorted values for each number."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, numbers)


def kernels(flatbuffer: bytes) -> list[Kernel]:
    """The kernels (filters, weights) that a model stores in float32."""
    model = parse(flatbuffer)
    tensors = model.subgraphs[0].tensors
    found = ((name, stored(model, tensors[one.inputs[1]])) for name, one in with_kernels(model))
    return [by_filter(values, FILTERS[name]) for name, values in found if values is not None]


def with_shared_codes(quantized: bytes, floats: Sequence[Kernel]) -> bytes:
    """A quantized model in which weights of one value of a codebook have one code of 8 bits, whatever their filter.

    floats: kernels (filters, weights) that the model was made of, in any order; each filter may differ by a factor, as
    where a batch normalization was folded in since. Kernels without a codebook stay as they are; without any, the same
    bytes come back.
    """
    books = [(kernel, book) for kernel in floats if (book := codebook(kernel)) is not None]
    if not books:
        return quantized
    model = parse(quantized)
    for kernel in _quantized(model):
        for values, book in books:
            if kernel.is_of(values):
                kernel.share(values, book)
                break
    return packed(model)


@dataclass(frozen=True, kw_only=True)
class _Quantized:
    """A kernel of 8 bits with a scale for each filter, in a parsed model. codes: (filters, weights)."""

    model: Any
    operator: Any
    dimension: int
    codes: npt.NDArray[np.int8]

    @property
    def tensor(self) -> Any:
        return self._input(1)

    @property
    def scales(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.tensor.quantization.scale, np.float64)

    def is_of(self, values: Kernel) -> bool:
        """Whether it holds these values, each filter scaled to the full range of its codes."""
        if values.shape != self.codes.shape or not self._full.any():
            return False
        rows = values[self._full]
        most = abs(rows).max(axis=1, keepdims=True)
        expected = MAX_INT8 * abs(rows) / np.where(most > 0, most, 1)
        return bool((abs(expected - abs(self.codes[self._full].astype(np.int16))) <= ROUNDING).all())

    @property
    def _full(self) -> npt.NDArray[np.bool_]:
        """Filters that use the whole range. Others have weights so small that quantization's least scale holds."""
        return np.asarray(abs(self.codes.astype(np.int16)).max(axis=1) == MAX_INT8)

    def share(self, values: Kernel, book: Codebook) -> None:
        """Write what it holds in codes of the codebook, with scales by the factors of the filters."""
        top = abs(book.values).max()
        codes = np.rint(MAX_INT8 / top * book.values)
        # Normalizations of a negative scale give the file's filters the other sign.
        mirrored = np.sign((self.codes * np.sign(values)).sum(axis=1)) * np.sign(book.factors)
        # The largest weight of a filter had the code 127. Where it had another, as learnt ranges may be a step older
        # than the weights, all codes tell the scale.
        most, squares = abs(values).max(axis=1), (values**2).sum(axis=1)
        per_value = np.where(
            self._full,
            MAX_INT8 / np.where(most > 0, most, 1),
            abs(self.codes * values).sum(axis=1) / np.where(squares > 0, squares, 1),
        )
        factors = per_value * abs(book.factors) * top / MAX_INT8
        # The converter raises the scale of a filter whose weights are small beside its bias, which has to fit 32 bits.
        fits = (factors > 0) & (self._bias_codes <= factors * INT32_MAX)
        shared = codes[book.places(values)] * mirrored[:, None] * (values != 0)
        # Others keep their scale, and take the nearest of the shared codes.
        magnitudes = np.unique([0.0, *abs(codes)])
        own = abs(self.codes.astype(np.float64))
        kept = np.sign(self.codes) * magnitudes[_nearest(own, magnitudes)]
        self._store(np.where(fits[:, None], shared, kept).astype(np.int8))
        scales = self.scales * np.where(fits, factors, 1)
        self._rescale_bias(self.scales / scales)
        self.tensor.quantization.scale = scales.astype(np.float32)

    def _store(self, codes: npt.NDArray[np.int8]) -> None:
        others = [int(size) for place, size in enumerate(self.tensor.shape) if place != self.dimension]
        store(self.model, self.tensor, np.moveaxis(codes.reshape(-1, *others), 0, self.dimension), self.tensor.type)

    @property
    def _bias_codes(self) -> npt.NDArray[np.float64]:
        """The magnitude of each filter's integer bias; zeros where it has none."""
        if len(self.operator.inputs) > 2 and self.operator.inputs[2] >= 0:
            bias = self._input(2)
            if kind := _INTEGERS.get(bias.type):
                return np.asarray(abs(self.model.buffers[bias.buffer].data.view(kind).astype(np.float64)))
        return np.zeros(len(self.codes))

    def _rescale_bias(self, ratios: npt.NDArray[np.float64]) -> None:
        """Keep what an integer bias says: its scales are those of the kernel times that of the input."""
        if len(self.operator.inputs) < 3 or self.operator.inputs[2] < 0:
            return
        bias = self._input(2)
        kind = _INTEGERS.get(bias.type)
        if kind is None:
            return
        codes = self.model.buffers[bias.buffer].data.view(kind)
        store(self.model, bias, np.rint(codes * ratios).astype(kind), bias.type)
        bias.quantization.scale = (np.asarray(bias.quantization.scale, np.float64) / ratios).astype(np.float32)

    def _input(self, number: int) -> Any:
        return self.model.subgraphs[0].tensors[self.operator.inputs[number]]


def _quantized(model: Any) -> Iterator[_Quantized]:
    """The kernels of 8 bits with a scale for each filter."""
    from ai_edge_litert import schema_py_generated as schema

    uses = Counter(int(place) for one in model.subgraphs[0].operators for place in one.inputs)
    for name, one in with_kernels(model):
        tensor = model.subgraphs[0].tensors[one.inputs[1]]
        data = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.INT8 or data is None:
            continue
        if len(tensor.quantization.scale) != tensor.shape[FILTERS[name]]:
            continue
        # What another operator takes as well must keep its scales.
        if any(uses[int(place)] > 1 for place in one.inputs[1:] if place >= 0):
            continue
        codes = data.view(np.int8).reshape(tuple(tensor.shape))
        yield _Quantized(model=model, operator=one, dimension=FILTERS[name], codes=by_filter(codes, FILTERS[name]))


def by_filter(values: npt.NDArray[Any], dimension: int) -> npt.NDArray[Any]:
    """A kernel as (filters, weights). dimension: that of the filters."""
    return np.moveaxis(values, dimension, 0).reshape(values.shape[dimension], -1)
