"""Predictions through coremltools, held against NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import PIL.Image
import pytest
import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

from ct_models import WEIGHT, convert

pytest_plugins = "ct_fixtures"

X = np.random.default_rng(2).standard_normal((4, 20), np.float32)
Y = np.maximum(X @ WEIGHT.T, 0)


def test_a_program(linear_model: Any) -> None:
    outputs = linear_model.predict({"x": X})
    assert list(outputs) == ["y"]
    assert outputs["y"].dtype == np.float32
    np.testing.assert_allclose(outputs["y"], Y, rtol=1e-5, atol=1e-5)
    assert linear_model.load_duration_in_nano_seconds > 0
    assert linear_model.last_predict_duration_in_nano_seconds > 0


@pytest.mark.parametrize(
    "value", [X.astype(np.float64), X.tolist(), torch.from_numpy(X), np.asfortranarray(X)]
)
def test_what_an_array_may_be(linear_model: Any, value: Any) -> None:
    np.testing.assert_allclose(linear_model.predict({"x": value})["y"], Y, rtol=1e-5, atol=1e-5)


def test_a_list_of_inputs(linear_model: Any) -> None:
    outputs = linear_model.predict([{"x": X}, {"x": -X}, {"x": 2 * X}])
    expected = [Y, np.maximum(-X @ WEIGHT.T, 0), 2 * Y]
    for output, values in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output["y"], values, rtol=1e-5, atol=1e-5)
    assert linear_model.predict([]) == []


def test_halves_come_as_floats_and_integers_from_floats() -> None:
    @mb.program(
        input_specs=[
            mb.TensorSpec(shape=(2, 3), dtype=types.fp16),
            mb.TensorSpec(shape=(2,), dtype=types.int32),
        ],
        opset_version=ct.target.iOS17,
    )
    def program(x: Any, i: Any) -> Any:
        return mb.mul(x=x, y=np.float16(2), name="y"), mb.add(x=i, y=np.int32(1), name="j")

    model = convert(program, minimum_deployment_target=ct.target.iOS17)
    x = np.array([[0.1, 0.25, 3], [-1, 1000, 0]], np.float32)
    outputs = model.predict({"x": x, "i": np.array([3.0, -4.0], np.float32)})
    assert outputs["y"].dtype == np.float32
    np.testing.assert_array_equal(outputs["y"], (2 * x.astype(np.float16)).astype(np.float32))
    assert outputs["j"].dtype == np.int32
    assert outputs["j"].tolist() == [4, -3]


def test_a_scalar_has_one_dimension() -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(3,))])
    def program(x: Any) -> Any:
        return mb.reduce_sum(x=x, axes=[0], keep_dims=False, name="y")

    outputs = convert(program).predict({"x": np.array([1, 2, 3.5], np.float32)})
    assert outputs["y"].shape == (1,)
    assert outputs["y"][0] == 6.5


class Sum(torch.nn.Module):
    """The sum of an image's channels, at each place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1, keepdim=True)


@pytest.fixture
def colours() -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 80, (5, 7, 3), np.uint8)


def test_images(colours: np.ndarray[Any, Any]) -> None:
    model = ct.convert(
        torch.jit.trace(Sum(), torch.zeros(1, 3, 5, 7)),
        inputs=[ct.ImageType("image", (1, 3, 5, 7), scale=2.0, color_layout=ct.colorlayout.BGR)],
        outputs=[ct.ImageType("sum", color_layout=ct.colorlayout.GRAYSCALE_FLOAT16)],
        minimum_deployment_target=ct.target.iOS16,
    )
    image = model.predict({"image": PIL.Image.fromarray(colours)})["sum"]
    assert (image.mode, image.size) == ("F", (7, 5))
    np.testing.assert_allclose(np.asarray(image), 2.0 * colours.sum(axis=2), rtol=1e-3)


def test_an_image_of_colours_has_four_channels(colours: np.ndarray[Any, Any]) -> None:
    model = ct.convert(
        torch.jit.trace(torch.nn.ReLU(), torch.zeros(1, 3, 5, 7)),
        inputs=[ct.ImageType("image", (1, 3, 5, 7))],
        outputs=[ct.ImageType("same")],
    )
    image = model.predict({"image": PIL.Image.fromarray(colours)})["same"]
    assert image.mode == "RGBA"
    assert (np.asarray(image)[..., :3] == colours).all()
    assert (np.asarray(image)[..., 3] == 255).all()
    with pytest.raises(TypeError, match="mode"):
        model.predict({"image": PIL.Image.fromarray(colours).convert("L")})


def test_an_image_may_be_integers() -> None:
    class Turn(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.transpose(-2, -1)

    model = ct.convert(
        torch.jit.trace(Turn(), torch.zeros(1, 1, 5, 7)),
        inputs=[ct.ImageType("image", (1, 1, 5, 7), color_layout="G", grayscale_use_uint8=True)],
        outputs=[ct.ImageType("turned", color_layout="G")],
        minimum_deployment_target=ct.target.iOS17,
    )
    pixels = np.random.default_rng(5).integers(0, 256, (5, 7), np.uint8)
    image = model.predict({"image": PIL.Image.fromarray(pixels)})["turned"]
    assert image.mode == "L"
    assert (np.asarray(image) == pixels.T).all()


def test_a_classifier() -> None:
    model = ct.convert(
        torch.jit.trace(torch.nn.Softmax(dim=1), torch.zeros(1, 3)),
        inputs=[ct.TensorType("x", (1, 3))],
        classifier_config=ct.ClassifierConfig(["cat", "dog", "fish"]),
        compute_precision=ct.precision.FLOAT32,
    )
    x = np.array([[0.5, 2.0, -1.0]], np.float32)
    outputs = model.predict({"x": x})
    assert outputs["classLabel"] == "dog"
    (probabilities,) = [value for value in outputs.values() if isinstance(value, dict)]
    expected = np.exp(x[0]) / np.exp(x[0]).sum()
    for label, share in zip(["cat", "dog", "fish"], expected, strict=True):
        assert probabilities[label] == pytest.approx(share, rel=1e-5)


def test_functions(linear_model: Any, tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(4, 20))])
    def negative(x: Any) -> Any:
        return mb.mul(x=x, y=np.float32(-1), name="negative")

    linear_model.save(str(tmp_path / "linear.mlpackage"))
    convert(negative).save(str(tmp_path / "negative.mlpackage"))
    descriptor = ct.utils.MultiFunctionDescriptor()
    descriptor.add_function(str(tmp_path / "linear.mlpackage"), "main", "linear")
    descriptor.add_function(str(tmp_path / "negative.mlpackage"), "main", "negative")
    descriptor.default_function_name = "linear"
    both = str(tmp_path / "both.mlpackage")
    ct.utils.save_multifunction(descriptor, both)

    default = ct.models.MLModel(both).predict({"x": X})
    np.testing.assert_allclose(default["y"], Y, rtol=1e-5, atol=1e-5)
    other = ct.models.MLModel(both, function_name="negative")
    assert (other.predict({"x": X})["negative"] == -X).all()
    compiled = ct.models.CompiledMLModel(other.get_compiled_model_path(), function_name="negative")
    assert (compiled.predict({"x": X})["negative"] == -X).all()


def test_two_halves_of_a_model(linear_model: Any, tmp_path: Path) -> None:
    ct.models.utils.bisect_model(linear_model, str(tmp_path), merge_chunks_to_pipeline=True)
    pipeline = ct.models.MLModel(str(tmp_path / "chunked_pipeline.mlpackage"))
    np.testing.assert_allclose(pipeline.predict({"x": X})["y"], Y, rtol=1e-5, atol=1e-5)
    compiled = ct.models.CompiledMLModel(pipeline.get_compiled_model_path())
    np.testing.assert_allclose(compiled.predict({"x": X})["y"], Y, rtol=1e-5, atol=1e-5)


def test_two_halves_are_compared_with_the_whole(linear_model: Any, tmp_path: Path) -> None:
    """The files of the two halves, whose results coremltools compares with the model's."""
    ct.models.utils.bisect_model(linear_model, str(tmp_path), check_output_correctness=True)
    first = ct.models.MLModel(str(tmp_path / "chunk1.mlpackage"))
    second = ct.models.MLModel(str(tmp_path / "chunk2.mlpackage"))
    middle = first.predict({"x": X})
    np.testing.assert_allclose(second.predict(middle)["y"], Y, rtol=1e-5, atol=1e-5)
