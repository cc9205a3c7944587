"""Memory does not grow with the number of predictions and of loads."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import candle_coreml as cm
import numpy as np
import pytest
from conftest import FEATURES

STATUS = Path("/proc/self/status")
# What an allocator may keep for itself. One array of each of the calls would take many times that.
SLACK = 12 << 20

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")


def resident() -> int:
    """Bytes of memory that the process holds."""
    gc.collect()
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def growth(call: Callable[[], object], times: int) -> int:
    """Bytes that the process holds more after so many calls, once others have come before."""
    for _ in range(times // 4):
        call()
    before = resident()
    for _ in range(times):
        call()
    return resident() - before


def test_predictions_keep_no_memory(build) -> None:  # type: ignore[no-untyped-def]
    from coremltools.converters.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((128, 128))])
    def program(x):  # type: ignore[no-untyped-def]
        return mb.add(x=x, y=1.0, name="y")

    model = cm.MLModel(build("plain", program))
    x = np.zeros((128, 128), np.float32)
    others = [x, x.T[::-1], x.astype(np.float64), x.astype(np.float16)]
    for value in others:
        assert growth(lambda: model.predict({"x": value}), 2000) < SLACK  # 64 KB each: 125 MB
    assert growth(lambda: model.predict([{"x": x}] * 20), 100) < SLACK


def test_failed_predictions_keep_no_memory(linear: str) -> None:
    model = cm.MLModel(linear)
    wrong = np.zeros((300, 100), np.float32)

    def fail() -> None:
        with pytest.raises(cm.InputError):
            model.predict({"x": wrong.T})

    assert growth(fail, 1500) < SLACK  # 120 KB each


def test_images_and_states_keep_no_memory(counter: str) -> None:
    model = cm.MLModel(FEATURES / "classifier.mlpackage")
    image = np.zeros(model.inputs[0].shape or (), np.uint8)
    assert growth(lambda: model.predict({"image": image}), 2000) < SLACK
    stateful = cm.MLModel(counter)

    def use() -> None:
        state = stateful.make_state()
        stateful.predict({"x": [1, 2, 3]}, state)
        state.read_state("sum")

    assert growth(use, 2000) < SLACK


def test_loads_keep_no_memory(linear: str) -> None:
    def load() -> None:
        model = cm.MLModel(linear)
        model.predict({"x": np.zeros((2, 3), np.float32)})
        assert model.function("main").description["runs"]

    assert growth(load, 150) < SLACK
