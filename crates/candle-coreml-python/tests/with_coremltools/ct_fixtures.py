"""Models that coremltools makes, with predictions of this package: a plugin of the tests here."""

from __future__ import annotations

from typing import Any

import coremltools as ct
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from ct_models import WEIGHT, convert


@pytest.fixture
def linear_model() -> Any:
    """`y = max(x · WEIGHTᵀ, 0)` for `x` of 4 × 20."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(4, 20))])
    def program(x: Any) -> Any:
        return mb.relu(x=mb.linear(x=x, weight=WEIGHT), name="y")

    return convert(program)


@pytest.fixture
def counter_model() -> Any:
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
