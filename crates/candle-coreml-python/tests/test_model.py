"""Loading models, what they say of themselves, and their predictions beside NumPy."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Literal

import candle_coreml as cm
import numpy as np
import pytest
from conftest import BIAS, FEATURES, REPOSITORY, WEIGHT

X = np.array([[1, -2, 3], [0.5, 0.25, -4]], np.float32)


def test_a_model_gives_what_numpy_does(linear: str) -> None:
    model = cm.MLModel(linear)
    outputs = model.predict({"x": X})
    assert list(outputs) == ["y"]
    assert outputs["y"].dtype == np.float32
    np.testing.assert_allclose(outputs["y"], X @ WEIGHT + BIAS, rtol=1e-6)


def test_outputs_are_the_callers_own(linear: str) -> None:
    model = cm.MLModel(linear)
    first = model.predict({"x": X})["y"]
    kept = first.copy()
    second = model.predict({"x": X * 0})["y"]
    first[0, 0] = 77
    np.testing.assert_array_equal(first[1:], kept[1:])
    np.testing.assert_allclose(second, np.broadcast_to(BIAS, (2, 4)))
    assert first.flags.writeable and first.flags.c_contiguous and first.flags.owndata


def test_halves_stay_halves(halves: str) -> None:
    outputs = cm.MLModel(halves).predict({"x": X.astype(np.float16)})
    assert outputs["y"].dtype == np.float16
    np.testing.assert_array_equal(outputs["y"], (X * 3).astype(np.float16))


def test_integers(integers: str) -> None:
    x = np.array([1, -7, 0, 2**20], np.int32)
    y = cm.MLModel(integers).predict({"x": x})["y"]
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, x * 2 + 1)


def test_paths_are_strings_or_paths(linear: str) -> None:
    for path in [linear, Path(linear), linear + "/"]:
        assert cm.MLModel(path).predict({"x": X})["y"].shape == (2, 4)


def test_a_relative_path_is_kept_as_an_absolute_one(linear: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.path.dirname(linear))
    assert cm.MLModel(os.path.basename(linear)).path == linear


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_results(linear: str, threads: int) -> None:
    y = cm.MLModel(linear, threads=threads).predict({"x": X})["y"]
    np.testing.assert_array_equal(y, cm.MLModel(linear).predict({"x": X})["y"])


@pytest.mark.parametrize("numerics", ["strict", "halves"])
def test_numerics_are_of_halves_alone(linear: str, numerics: Literal["strict", "halves"]) -> None:
    y = cm.MLModel(linear, numerics=numerics).predict({"x": X})["y"]
    np.testing.assert_array_equal(y, cm.MLModel(linear).predict({"x": X})["y"])


def test_numerics_have_names(linear: str) -> None:
    with pytest.raises(ValueError, match='expected one of "strict", "halves", got "exact"'):
        cm.MLModel(linear, numerics="exact")  # type: ignore[arg-type]


def test_strict_fp16_rounds_each_result(build) -> None:  # type: ignore[no-untyped-def]
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(input_specs=[mb.TensorSpec((1,), types.fp16)], opset_version=ct.target.iOS18)
    def program(x):  # type: ignore[no-untyped-def]
        return mb.sub(x=mb.exp(x=x), y=mb.exp(x=mb.add(x=x, y=np.float16(0.25))), name="y")

    path = build("strict", program, compute_precision=ct.precision.FLOAT16)
    x = np.array([2.3], np.float16)
    rounded = np.exp(x).astype(np.float16) - np.exp(x + np.float16(0.25)).astype(np.float16)
    assert cm.MLModel(path, strict_fp16=True).predict({"x": x})["y"][0] == rounded[0]
    exact = np.exp(x.astype(np.float64)) - np.exp(x.astype(np.float64) + 0.25)
    assert abs(cm.MLModel(path).predict({"x": x})["y"][0] - exact[0]) < 2e-3


def test_a_model_describes_itself(linear: str) -> None:
    model = cm.MLModel(linear)
    (x,), (y,) = model.inputs, model.outputs
    assert (x.name, x.type, x.dtype, x.shape) == ("x", "multi_array", "float32", (2, 3))
    assert (y.name, y.type, y.dtype) == ("y", "multi_array", "float32")
    assert (x.allowed_shapes, x.shape_ranges, x.optional, x.description) == (None, None, False, "")
    assert str(x) == "x: MultiArray Float32 [2, 3]"
    assert x == cm.MLModel(linear).inputs[0] and x != y and len({x, y}) == 2
    assert model.states == ()
    assert (model.function_name, model.functions) == ("main", ("main",))
    assert model.specification_version == 9
    assert "com.github.apple.coremltools.version" in model.metadata["user_defined"]
    assert "linear.mlpackage" in repr(model)
    assert "y" in model.plan()


def test_the_description_is_that_of_inspect(linear: str) -> None:
    description = cm.MLModel(linear).description
    assert json.loads(json.dumps(description)) == description
    assert description["runs"] is True
    assert description["functions"][0]["inputs"][0]["name"] == "x"


def test_ranges_and_lists_of_shapes(ranged: str, listed: str) -> None:
    (x,) = cm.MLModel(ranged).inputs
    assert (x.shape, x.shape_ranges, x.allowed_shapes) == ((4, 2), ((3, 5), (2, 2)), None)
    for rows in [3, 4, 5]:
        values = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        np.testing.assert_array_equal(cm.MLModel(ranged).predict({"x": values})["y"], values * 2)
    (x,) = cm.MLModel(listed).inputs
    assert x.shape == (4, 2) and x.shape_ranges is None
    assert set(x.allowed_shapes or ()) == {(1, 2), (4, 2)}


def test_image_features() -> None:
    (image,) = cm.MLModel(FEATURES / "ranges.mlmodel").inputs
    assert (image.type, image.dtype, image.color_space) == ("image", "uint8", "RGB")
    assert image.shape is not None and len(image.shape) == 3 and image.shape[2] == 3
    assert image.shape_ranges is not None and image.shape_ranges[2] == (3, 3)
    (gray,) = cm.MLModel(FEATURES / "gray_float.mlmodel").inputs
    assert (gray.dtype, gray.color_space, len(gray.shape or ())) == ("float16", "Grayscale16Half", 2)


def test_functions_share_a_package() -> None:
    model = cm.MLModel(FEATURES / "functions.mlpackage")
    assert set(model.functions) == {"small", "large"}
    image = np.zeros((2, 2, 3), np.uint8)
    small = model.function("small")
    assert small.function_name == "small" and small.path == model.path
    assert small.predict({"image": image}).keys() == {"y"}
    large = cm.MLModel(FEATURES / "functions.mlpackage", function_name="large")
    with pytest.raises(cm.InputError):
        large.predict({"image": image})
    for wrong in [lambda: model.function("other"), lambda: cm.MLModel(model.path, function_name="other")]:
        with pytest.raises(cm.UnknownNameError, match="`other`.*`large`"):
            wrong()


def test_closing_and_with(linear: str) -> None:
    with cm.MLModel(linear) as model:
        assert not model.closed
        model.predict({"x": X})
    assert model.closed and "closed" in repr(model)
    model.close()
    for use in [
        lambda: model.predict({"x": X}),
        lambda: model.inputs,
        lambda: model.make_state(),
        lambda: model.plan(),
        lambda: model.__enter__() and model.description,
    ]:
        with pytest.raises(cm.ClosedError, match="linear.mlpackage.*closed"):
            use()
    assert issubclass(cm.ClosedError, ValueError)


def test_check_precision_names_the_operation_that_overflows(halves: str) -> None:
    model = cm.MLModel(halves)
    assert model.check_precision({"x": X})["fine"] is True
    report = model.check_precision({"x": np.full((2, 3), 60000, np.float16)})
    assert report["fine"] is False
    (finding,) = report["findings"]
    assert (finding["loss"], finding["operator"], finding["affected"]) == ("overflow", "mul", 6)
    assert finding["largest"] == 3 * float(np.float16(60000)) and report["outputs"][0]["name"] == "y"


def test_the_program_checks_alike(halves: str) -> None:
    program = REPOSITORY / "target" / "debug" / "candle-coreml"
    if not program.exists():
        pytest.skip("the program is not built")
    command = [str(program), "inspect", halves, "--json"]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert cm.MLModel(halves).description == shown


def test_many_inputs_at_a_time(ranged: str) -> None:
    model = cm.MLModel(ranged)
    values = [np.full((3 + number % 3, 2), number, np.float32) for number in range(50)]
    outputs = model.predict([{"x": value} for value in values])
    assert len(outputs) == 50
    for value, output in zip(values, outputs):
        np.testing.assert_array_equal(output["y"], value * 2)
    assert model.predict([]) == []
    assert model.predict([{"x": values[0]}])[0]["y"].shape == (3, 2)


def test_the_first_error_of_many_names_its_place(ranged: str) -> None:
    model = cm.MLModel(ranged)
    good = {"x": np.zeros((3, 2), np.float32)}
    with pytest.raises(cm.InputError, match=r"^inputs\[2\]: input `x`") as caught:
        model.predict([good, good, {"x": np.zeros((9, 2), np.float32)}, good])
    error = caught.value
    assert (error.name, error.index, error.args) == ("x", 2, (str(error),))
    with pytest.raises(cm.UnknownNameError, match=r"^inputs\[1\]: input `z`"):
        model.predict([good, {"z": good["x"]}])
    with pytest.raises(cm.InputError, match="a state serves one"):
        model.predict([good], state=cm.MLModel(ranged).make_state())  # type: ignore[call-overload]
