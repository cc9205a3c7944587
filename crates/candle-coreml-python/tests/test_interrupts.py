"""Ctrl-C during a long prediction, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import signal, sys
import numpy as np
import candle_coreml as cm

# Whoever runs the tests in the background has it ignored, and their processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
model = cm.MLModel({path!r}, threads={threads})
inputs = {inputs}
print("ready", flush=True)
try:
    model.predict(inputs)
except {error} as error:
    print("stopped", type(error).__name__, flush=True)
    print(model.outputs[0].name, flush=True)
"""


def interrupted(path: str, *, sent: int = signal.SIGINT, **values: object) -> list[str]:
    """What a process prints that is sent a signal while it predicts."""
    values = {"before": "", "threads": None, "inputs": "{'x': [0.0]}", "error": "KeyboardInterrupt"} | values
    script = SCRIPT.format(path=path, **values)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1)
        assert process.poll() is None
        os.kill(process.pid, sent)
        rest, _ = process.communicate(timeout=60)
        return rest.split()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_ctrl_c_ends_a_prediction(endless: str, threads: int | None) -> None:
    printed = interrupted(endless, threads=threads)
    assert printed == ["stopped", "KeyboardInterrupt", "y"]


def test_ctrl_c_ends_a_prediction_on_the_threads_of_a_pool(heavy: str) -> None:
    printed = interrupted(heavy, threads=2, inputs="{'x': np.zeros((1, 2048), np.float32)}")
    assert printed == ["stopped", "KeyboardInterrupt", "y"]


def test_ctrl_c_ends_all_of_a_list(endless: str) -> None:
    printed = interrupted(endless, inputs="[{'x': [0.0]}] * 4")
    assert printed == ["stopped", "KeyboardInterrupt", "y"]


def test_a_signals_own_handler_is_called(endless: str) -> None:
    before = "def handler(*_):\n    raise ValueError('mine')\nsignal.signal(signal.SIGUSR1, handler)"
    printed = interrupted(
        endless, sent=signal.SIGUSR1, before=before, error="ValueError"
    )
    assert printed == ["stopped", "ValueError", "y"]


@pytest.fixture(scope="module")
def heavy(build) -> str:  # type: ignore[no-untyped-def]
    """An endless loop with weights that are large enough for the threads of a pool."""
    import numpy as np
    from coremltools.converters.mil import Builder as mb

    weight = np.eye(2048, dtype=np.float32)

    @mb.program(input_specs=[mb.TensorSpec((1, 2048))])
    def program(x):  # type: ignore[no-untyped-def]
        def condition(i, _x):  # type: ignore[no-untyped-def]
            return mb.less(x=i, y=np.int32(2**31 - 1))

        def body(i, x):  # type: ignore[no-untyped-def]
            return mb.add(x=i, y=np.int32(1)), mb.matmul(x=x, y=weight)

        _, y = mb.while_loop(_cond=condition, _body=body, loop_vars=(np.int32(0), x))
        return mb.identity(x=y, name="y")

    return str(build("heavy", program))
