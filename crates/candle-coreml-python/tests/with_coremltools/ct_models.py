"""What the tests' models are made with. coremltools is enabled from here on."""

from __future__ import annotations

from typing import Any

import coremltools as ct
import numpy as np

import candle_coreml.coremltools

candle_coreml.coremltools.enable()


def convert(program: Any, **options: Any) -> Any:
    """A program as an `MLModel`, with float32 unless told otherwise."""
    options = {"convert_to": "mlprogram", "compute_precision": ct.precision.FLOAT32, **options}
    return ct.convert(program, **options)


WEIGHT = np.random.default_rng(1).standard_normal((30, 20), np.float32)
