"""Defaults of arguments, from `default_inputs` of each operator."""

import numpy as np
from coremltools.converters.mil.mil import types

REQUIRED = object()


class Computed(str):
    """A default that depends on other arguments, in words."""


# What defaults that vary with other arguments are, after reading the sources.
COMPUTED = {
    "axes": "every axis",
    "bias": "zeros",
    "box_indices": "0, 1, … in the order of the boxes",
    "dilations": "1 for each spatial dimension",
    "pad": "0 before and after each spatial dimension",
    "strides": "1 for each spatial dimension",
}
# Defaults that only the documentation of an operator states.
DOCUMENTED = {
    ("gru", "reset_after"): False,
    ("upsample_bilinear", "half_pixel_centers"): Computed("the opposite of `align_corners`"),
}


class StandIn:
    """What `default_inputs` asks of an argument."""

    def __init__(self, shape, dtype, val):
        self.shape, self.rank, self.dtype, self.val = shape, len(shape), dtype, val


def defaults(name, operator):
    """For each argument its default: a value, None where there is none, REQUIRED or Computed."""
    worlds = [
        evaluate(operator, shape, dtype, given)
        for shape in [(2, 3, 4), (5, 6, 7, 8)]
        for dtype in [types.fp32, types.fp16]
        for given in [True, False]
    ]
    return {
        parameter: default(name, parameter, worlds) if kind.optional else REQUIRED
        for parameter, kind in operator.input_spec.input_types.items()
    }


def evaluate(operator, shape, dtype, given):
    """`default_inputs` where tensors have this shape and type; optional arguments are all given (as
    false where they are asked for a value) or all left out."""
    operation = operator.__new__(operator)
    for parameter, kind in operator.input_spec.input_types.items():
        present = given or not kind.optional
        setattr(operation, parameter, StandIn(shape, dtype, False) if present else None)
    return {parameter: plain(value) for parameter, value in operation.default_inputs().items()}


def plain(value):
    if isinstance(value, (range, np.ndarray)):
        return list(value)
    # float(str()) of an fp32 number is what the source says: 1e-4, not 9.999999747378752e-05.
    return float(str(value)) if isinstance(value, np.floating) else value


def default(name, parameter, worlds):
    # The default of `output_indices_dtype` of topk is there unless indices are not asked for.
    values = [world[parameter] for world in worlds if parameter in world]
    if all(value is None for value in values):
        return DOCUMENTED.get((name, parameter))
    # The first world is in fp32; those in fp16 may differ from it by rounding only.
    if all(same(value, values[0]) for value in values) and not isinstance(values[0], list):
        return values[0]
    if parameter not in COMPUTED:
        raise SystemExit(f"{name}: the default of {parameter} varies, as {values}")
    return Computed(COMPUTED[parameter])


def same(value, reference):
    if isinstance(value, float):
        return value in (reference, float(str(np.float16(reference))))
    return value == reference
