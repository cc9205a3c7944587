"""Palettization against exhaustive search and known cases."""

import itertools

import numpy as np
import pytest
from anemll_export.palettize import group_rows, palettize


def dense(palettized):
    grouped = palettized.indices.reshape(len(palettized.tables), -1).astype(int)
    rows = [table[index] for table, index in zip(palettized.tables, grouped)]
    return np.stack(rows).reshape(palettized.indices.shape).astype(np.float32)


def random_matrix(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("mode", ["kmeans", "quantile", "uniform"])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_every_index_names_the_nearest_entry(mode, bits):
    weight = random_matrix(24, 40)
    result = palettize(weight, bits, mode)
    assert result.tables.shape == (3, 1 << bits)
    tables = result.tables.astype(np.float32)
    for group, table, index in zip(weight.reshape(3, -1), tables, result.indices.reshape(3, -1)):
        distances = np.abs(group[:, None] - table)
        chosen = distances[np.arange(len(group)), index]
        np.testing.assert_array_equal(chosen, distances.min(axis=1))


@pytest.mark.parametrize("mode", ["kmeans", "quantile", "uniform"])
def test_a_constant_matrix_survives(mode):
    weight = np.full((8, 5), -0.375, np.float32)
    np.testing.assert_array_equal(dense(palettize(weight, 4, mode)), weight)


def test_few_distinct_values_are_kept_exactly():
    weight = np.random.default_rng(1).choice(np.float32([-1, 0, 0.5, 3]), (16, 30))
    np.testing.assert_array_equal(dense(palettize(weight, 4, "kmeans")), weight)


def best_error(ordered, clusters):
    """Least squared error of sorted values in so many intervals, by dynamic programming."""
    count = len(ordered)
    cost = np.full((count + 1, count + 1), np.inf)
    for begin, end in itertools.combinations(range(count + 1), 2):
        part = ordered[begin:end]
        cost[begin, end] = np.square(part - part.mean()).sum()
    best = cost[0]
    for _ in range(clusters - 1):
        best = (best[:, None] + cost).min(axis=0)
    return best[count]


def test_kmeans_comes_close_to_the_best_intervals():
    for seed in range(4):
        weight = random_matrix(8, 16, seed)
        best = best_error(np.sort(weight.ravel()), 16)
        found = np.square(dense(palettize(weight, 4, "kmeans")) - weight).sum()
        assert best * 0.999 <= found <= best * 1.5


def test_kmeans_errs_less_than_the_fast_modes():
    weight = random_matrix(64, 192)
    errors = {
        mode: np.square(dense(palettize(weight, 4, mode)) - weight).mean()
        for mode in ("kmeans", "quantile", "uniform")
    }
    assert errors["kmeans"] < errors["quantile"]
    assert errors["kmeans"] < errors["uniform"]
    # The least mean squared error of 16 levels on a normal distribution is 0.0095.
    assert errors["kmeans"] < 0.0105


def test_groups_divide_the_rows():
    assert [group_rows(rows) for rows in (64, 12, 9, 7)] == [8, 4, 1, 1]
    assert palettize(random_matrix(12, 8), 4, "uniform").tables.shape == (3, 16)
