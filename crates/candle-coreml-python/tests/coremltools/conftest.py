"""Models that coremltools makes, with predictions of this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("coremltools")

import candle_coreml.coremltools

# Before coremltools is imported, as its users do.
candle_coreml.coremltools.enable()
import coremltools as ct  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from ct_models import WEIGHT, convert  # noqa: E402


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """Tests that disable it do so for themselves."""
    candle_coreml.coremltools.enable()
    yield
    candle_coreml.coremltools.enable()


@pytest.fixture
def linear() -> Any:
    """`y = max(x · WEIGHTᵀ, 0)` for `x` of 4 × 20."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(4, 20))])
    def program(x: Any) -> Any:
        return mb.relu(x=mb.linear(x=x, weight=WEIGHT), name="y")

    return convert(program)


@pytest.fixture
def counter() -> Any:
    """Adds `x` to the state `total` of 3 float16; `y` is the new total."""

    @mb.program(
        input_specs=[
            mb.TensorSpec(shape=(3,), dtype=types.fp16),
            mb.StateTensorSpec(shape=(3,), dtype=types.fp16),
        ],
        opset_version=ct.target.iOS18,
    )
    def program(x: Any, total: Any) -> Any:
        sum_ = mb.add(x=mb.read_state(input=total), y=x)
        return mb.identity(x=mb.coreml_update_state(state=total, value=sum_), name="y")

    return convert(program, minimum_deployment_target=ct.target.iOS18)
