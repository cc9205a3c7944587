"""Palettization: weights as small indices into tables shared by a few rows.

The form is that of iOS 18's `constexpr_lut_to_dense`: `indices` of the weight's shape, and one
table per group of rows on axis 0. ANEMLL groups 8 output rows.
"""

import math
from dataclasses import dataclass

import numpy as np

GROUP_ROWS = 8
KMEANS_ROUNDS = 60


@dataclass(frozen=True)
class Palettized:
    """A palettized matrix: `indices` uint8 [rows, columns], `tables` fp16 [groups, 2**bits]."""

    indices: np.ndarray
    tables: np.ndarray
    bits: int


def group_rows(rows: int) -> int:
    """Rows per table: 8, or fewer where 8 does not divide the row count."""
    return math.gcd(rows, GROUP_ROWS)


def palettize(weight: np.ndarray, bits: int, mode: str) -> Palettized:
    """Palettizes a float matrix [rows, columns] with `bits` per weight.

    `kmeans` finds tables of least squared error, `quantile` and `uniform` are faster and coarser.
    """
    make_table = {"kmeans": _kmeans, "quantile": _quantile, "uniform": _uniform}[mode]
    groups = weight.reshape(weight.shape[0] // group_rows(weight.shape[0]), -1)
    tables = np.empty((groups.shape[0], 1 << bits), dtype=np.float16)
    indices = np.empty(groups.shape, dtype=np.uint8)
    for row, values in enumerate(groups):
        # The nearest entry is sought among the rounded ones, which are what a runtime sees.
        table = np.sort(make_table(np.sort(values), 1 << bits).astype(np.float16))
        tables[row] = table
        indices[row] = _nearest(table.astype(np.float32), values)
    return Palettized(indices.reshape(weight.shape), tables, bits)


def _nearest(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the table entry nearest to each value; the table is sorted."""
    return np.searchsorted((table[1:] + table[:-1]) / 2, values)


def _uniform(ordered: np.ndarray, entries: int) -> np.ndarray:
    return np.linspace(ordered[0], ordered[-1], entries)


def _quantile(ordered: np.ndarray, entries: int) -> np.ndarray:
    """Means of equally populated bins."""
    places = ((np.arange(entries) + 0.5) * len(ordered) / entries).astype(np.intp)
    return _bin_means(ordered, np.diff(places) // 2 + places[:-1] + 1, ordered[places])


def _kmeans(ordered: np.ndarray, entries: int) -> np.ndarray:
    """Lloyd's iteration in one dimension, exact because sorted values make clusters intervals."""
    distinct = np.unique(ordered)
    if len(distinct) <= entries:
        return np.pad(distinct, (0, entries - len(distinct)), mode="edge")
    table = _starting_table(ordered, entries)
    bounds = None
    for _ in range(KMEANS_ROUNDS):
        moved = np.searchsorted(ordered, (table[1:] + table[:-1]) / 2)
        if bounds is not None and np.array_equal(moved, bounds):
            break
        bounds = moved
        table = _bin_means(ordered, bounds, table)
    return table


def _starting_table(ordered: np.ndarray, entries: int) -> np.ndarray:
    """Halfway between quantiles, which starve the tails, and even spacing, which starves the middle."""
    return (_quantile(ordered, entries) + _uniform(ordered, entries)) / 2


def _bin_means(ordered: np.ndarray, bounds: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Mean of each interval between bounds; an empty interval keeps its fallback."""
    sums = np.concatenate(([0.0], np.cumsum(ordered, dtype=np.float64)))
    edges = np.concatenate(([0], bounds, [len(ordered)]))
    counts = np.diff(edges)
    means = np.diff(sums[edges]) / np.maximum(counts, 1)
    return np.where(counts > 0, means, fallback)
