"""Models for the tests: fixtures of the repository, and what coremltools makes here."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
FEATURES = REPOSITORY / "fixtures" / "features"

sys.path.insert(0, str(HERE))

# Whoever runs the tests in the background may have it ignored; some of them need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that saves a MIL program as an `.mlpackage` and gives its path."""
    ct = pytest.importorskip("coremltools")
    directory = tmp_path_factory.mktemp("models")

    def save(name: str, program: Any, **options: Any) -> str:
        options.setdefault("compute_precision", ct.precision.FLOAT32)
        options.setdefault("minimum_deployment_target", ct.target.iOS18)
        model = ct.convert(program, convert_to="mlprogram", skip_model_load=True, **options)
        path = directory / f"{name}.mlpackage"
        model.save(str(path))
        return str(path)

    return save


WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([0.5, -0.25, 2.0, 0.0], np.float32)


@pytest.fixture(scope="session")
def linear(build: Callable[..., str]) -> str:
    """`y = x @ WEIGHT + BIAS` of `x` with shape (2, 3)."""
    from coremltools.converters.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((2, 3))])
    def program(x: Any) -> Any:
        return mb.add(x=mb.matmul(x=x, y=WEIGHT), y=BIAS, name="y")

    return build("linear", program)


@pytest.fixture(scope="session")
def halves(build: Callable[..., str]) -> str:
    """`y = x * 3` in float16, of `x` with shape (2, 3)."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(input_specs=[mb.TensorSpec((2, 3), types.fp16)], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        return mb.mul(x=x, y=np.float16(3), name="y")

    return build("halves", program, compute_precision=ct.precision.FLOAT16)


@pytest.fixture(scope="session")
def integers(build: Callable[..., str]) -> str:
    """`y = x * 2 + 1` of int32 `x` with shape (4,)."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(input_specs=[mb.TensorSpec((4,), types.int32)])
    def program(x: Any) -> Any:
        return mb.add(x=mb.mul(x=x, y=2), y=1, name="y")

    return build("integers", program)


@pytest.fixture(scope="session")
def ranged(build: Callable[..., str]) -> str:
    """`y = x * 2` of `x` with shape (3..5, 2)."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import get_new_symbol

    rows = ct.RangeDim(3, 5, default=4)

    @mb.program(input_specs=[mb.TensorSpec((get_new_symbol(), 2))])
    def program(x: Any) -> Any:
        return mb.mul(x=x, y=2.0, name="y")

    return build("ranged", program, inputs=[ct.TensorType("x", (rows, 2))])


@pytest.fixture(scope="session")
def listed(build: Callable[..., str]) -> str:
    """`y = x * 2` of `x` with shape (1, 2) or (4, 2)."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import get_new_symbol

    @mb.program(input_specs=[mb.TensorSpec((get_new_symbol(), 2))])
    def program(x: Any) -> Any:
        return mb.mul(x=x, y=2.0, name="y")

    shapes = ct.EnumeratedShapes([(1, 2), (4, 2)], default=(4, 2))
    return build("listed", program, inputs=[ct.TensorType("x", shapes)])


@pytest.fixture(scope="session")
def endless(build: Callable[..., str]) -> str:
    """A loop of 2 ** 31 - 1 turns, which adds 1 to `x` in each."""
    from coremltools.converters.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((1,))])
    def program(x: Any) -> Any:
        def condition(i: Any, _x: Any) -> Any:
            return mb.less(x=i, y=np.int32(2**31 - 1))

        def body(i: Any, x: Any) -> Any:
            return mb.add(x=i, y=np.int32(1)), mb.add(x=x, y=1.0)

        _, y = mb.while_loop(_cond=condition, _body=body, loop_vars=(np.int32(0), x))
        return mb.identity(x=y, name="y")

    return build("endless", program)


@pytest.fixture(scope="session")
def counter(build: Callable[..., str]) -> str:
    """Adds `x` with shape (3,) to the float16 state `sum`; `y` is the new sum."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec((3,), types.fp16), mb.StateTensorSpec((3,), types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(x: Any, sum: Any) -> Any:
        total = mb.add(x=mb.read_state(input=sum), y=x)
        return mb.identity(x=mb.coreml_update_state(state=sum, value=total), name="y")

    return build("counter", program, compute_precision=ct.precision.FLOAT16)
