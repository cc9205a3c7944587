"""States through coremltools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest_plugins = "ct_fixtures"


def test_a_state_is_changed_by_predictions(counter_model: Any) -> None:
    state, other = counter_model.make_state(), counter_model.make_state()
    x = np.array([1, 2, 3], np.float32)
    assert counter_model.predict({"x": x}, state)["y"].tolist() == [1, 2, 3]
    assert counter_model.predict({"x": x}, state)["y"].tolist() == [2, 4, 6]
    assert counter_model.predict({"x": x}, other)["y"].tolist() == [1, 2, 3]


def test_a_state_is_read_and_written(counter_model: Any) -> None:
    state = counter_model.make_state()
    assert state.read_state("total").tolist() == [0, 0, 0]
    state.write_state("total", np.array([10, 20, 0.5], np.float32))
    assert state.read_state("total").dtype == np.float32
    outputs = counter_model.predict({"x": np.ones(3, np.float32)}, state)
    assert outputs["y"].tolist() == [11, 21, 1.5]
    assert state.read_state("total").tolist() == [11, 21, 1.5]


def test_what_is_refused(counter_model: Any) -> None:
    state = counter_model.make_state()
    with pytest.raises(RuntimeError, match="sum"):
        state.read_state("sum")
    with pytest.raises(RuntimeError, match="sum"):
        state.write_state("sum", np.zeros(3, np.float32))
    with pytest.raises(RuntimeError, match="total"):
        state.write_state("total", np.zeros(4, np.float32))
    assert state.read_state("total").tolist() == [0, 0, 0]
