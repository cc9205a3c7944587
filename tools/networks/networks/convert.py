"""From PyTorch to a Core ML model."""

import coremltools as ct
import numpy as np
import torch

from . import missing  # noqa: F401 (registers what coremltools lacks)

TARGETS = {
    "ios15": ct.target.iOS15,
    "ios16": ct.target.iOS16,
    "ios17": ct.target.iOS17,
    "ios18": ct.target.iOS18,
}
PRECISIONS = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}


def traced(network, plain):
    """The module as coremltools' frontend wants it."""
    samples = tuple(value.sample(seed=i) for i, value in enumerate(network.inputs))
    with torch.no_grad():
        if network.frontend == "export":
            return torch.export.export(plain, samples).run_decompositions({})
        return torch.jit.trace(plain, samples, strict=False, check_trace=False)


def convert(network, program, outputs, opset, precision):
    """The model, with the network's names of inputs, and `y0`, `y1` … for its results."""
    types = [
        ct.TensorType(name=v.name, shape=v.shape, dtype=np.int32 if v.below else None) for v in network.inputs
    ]
    return ct.convert(
        program,
        inputs=types,
        outputs=[ct.TensorType(name=f"y{i}") for i in range(outputs)],
        convert_to="mlprogram",
        minimum_deployment_target=TARGETS[opset],
        compute_precision=PRECISIONS[precision],
        skip_model_load=True,
    )
