"""What goes wrong in predictions, in Core ML's words where they are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb

import candle_coreml
from candle_coreml.coremltools import Engine

from ct_models import convert

pytest_plugins = "ct_fixtures"


def relu(shape: Any) -> Any:
    import torch

    traced = torch.jit.trace(torch.nn.ReLU(), torch.zeros(4, 3))
    return ct.convert(traced, inputs=[ct.TensorType("x", shape)], minimum_deployment_target=ct.target.iOS16)


def test_a_size_out_of_range() -> None:
    model = relu((ct.RangeDim(3, 5), 3))
    words = r"Size \(99\) of dimension \(0\) is not in allowed range \(3\.\.5\)"
    with pytest.raises(
        RuntimeError, match=f"^Unable to compute the prediction using ML Program: {words}"
    ) as raised:
        model.predict({"x": np.zeros((99, 3), np.float32)})
    assert isinstance(raised.value.__cause__, candle_coreml.InputError)
    assert raised.value.__cause__.name == "x"


def test_a_shape_that_is_not_enumerated() -> None:
    model = relu(ct.EnumeratedShapes([(4, 3), (8, 3)]))
    words = r"MultiArray Shape \(5 x 3\) was not in enumerated set of allowed shapes"
    with pytest.raises(RuntimeError, match=words):
        model.predict({"x": np.zeros((5, 3), np.float32)})


def test_another_rank(linear_model: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^Unable to compute the prediction using ML Program.*x"):
        linear_model.predict({"x": np.zeros((4, 20, 1), np.float32)})


def test_an_input_that_is_missing(linear_model: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^Unable to compute the prediction using ML Program.*x"):
        linear_model.predict({})


def test_an_operation_that_can_not_be_run() -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 3)), mb.TensorSpec(shape=(1,))])
    def program(x: Any, i: Any) -> Any:
        return mb.gather(x=x, indices=mb.cast(x=i, dtype="int32"), axis=0, name="row")

    model = convert(program)
    row = model.predict({"x": np.arange(6).reshape(2, 3), "i": np.array([1.0])})["row"]
    assert row.tolist() == [[3, 4, 5]]
    with pytest.raises(RuntimeError, match=r"^Unable to compute the prediction using ML Program.*row"):
        model.predict({"x": np.zeros((2, 3)), "i": np.array([7.0])})


def test_values_that_are_no_arrays(linear_model: Any) -> None:
    compiled = ct.models.CompiledMLModel(linear_model.get_compiled_model_path())
    with pytest.raises(RuntimeError, match="value type not convertible: str for 'x'"):
        compiled.predict({"x": "text"})


def test_a_model_that_can_not_be_loaded(linear_model: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no\.mlpackage"):
        Engine(str(tmp_path / "no.mlpackage"))
    linear_model.save(str(tmp_path / "linear.mlpackage"))
    (tmp_path / "linear.mlpackage/Data/com.apple.CoreML/weights/weight.bin").write_bytes(b"short")
    with pytest.warns(RuntimeWarning, match=r"weight\.bin"):
        model = ct.models.MLModel(str(tmp_path / "linear.mlpackage"))
    # The same error again.
    with pytest.raises(RuntimeError, match=r"weight\.bin"):
        model.predict({"x": np.zeros((4, 20), np.float32)})


def test_a_weight_file_out_of_a_model_in_memory(linear_model: Any) -> None:
    blobs = {"../../weight.bin": b""}
    asset = ct.models.model.MLModelAsset.from_memory(linear_model.get_spec().SerializeToString(), blobs)
    with pytest.raises(RuntimeError, match=r"\.\./\.\./weight\.bin"):
        ct.models.CompiledMLModel.from_asset(asset)
