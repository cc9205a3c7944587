"""Images, classes, optional inputs and functions: the cases that NumPy and Pillow made."""

from __future__ import annotations

import json
from typing import Any

import candle_coreml as cm
import numpy as np
import pytest
from conftest import FEATURES

CASES = json.loads((FEATURES / "cases.json").read_text())


def value_of(given: dict[str, Any], pillow: bool) -> Any:
    """A value of a case: an array, or an image as an array or as Pillow's."""
    if "array" in given:
        return np.array(given["values"], given["array"]).reshape(given["shape"])
    if "image" not in given:
        (value,) = given.values()
        return dict(value) if isinstance(value, list) else value
    pixels = np.array(given["pixels"], np.float32 if given["image"] == "F" else np.uint8)
    if not pillow:
        return pixels
    image = pytest.importorskip("PIL.Image")
    return image.fromarray(pixels, given["image"])


@pytest.mark.parametrize("pillow", [True, False], ids=["pillow", "array"])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_case(index: int, pillow: bool) -> None:
    case = CASES[index]
    model = cm.MLModel(FEATURES / case["model"], function_name=case.get("function"))
    inputs = {name: value_of(given, pillow) for name, given in case["inputs"].items()}
    if "error" in case:
        with pytest.raises(cm.Error) as caught:
            model.predict(inputs)
        error = caught.value
        assert isinstance(error, (cm.InputError, cm.PredictionError, cm.ModelError)), repr(error)
        return
    outputs = model.predict(inputs)
    assert set(outputs) == set(case["outputs"])
    for name, expected in case["outputs"].items():
        check(outputs[name], expected)


def check(output: Any, given: dict[str, Any]) -> None:
    expected = value_of(given, False)
    if "image" in given:
        assert output.mode == given["image"]
        finite = np.isfinite(expected)  # JSON has no infinities
        np.testing.assert_array_equal(np.asarray(output)[finite], expected[finite])
        assert not np.isfinite(np.asarray(output)[~finite]).any()
    elif "array" in given:
        assert output.dtype == expected.dtype
        np.testing.assert_allclose(output, expected, rtol=1e-6, atol=1e-6)
        assert output.shape == expected.shape
    elif "dictionary" in given:
        assert output == pytest.approx(expected, abs=1e-6)
        assert [type(key) for key in output] == [type(key) for key in expected]
    else:
        assert output == expected and type(output) is type(expected)


def test_modes_of_pillow() -> None:
    image = pytest.importorskip("PIL.Image")
    model = cm.MLModel(FEATURES / "rgb_to_bgr.mlmodel")
    (feature,) = model.inputs
    assert feature.shape is not None
    height, width, _ = feature.shape
    pixels = np.arange(height * width * 4, dtype=np.uint8).reshape(height, width, 4)
    with_alpha = image.fromarray(pixels, "RGBA")
    plain = image.fromarray(np.ascontiguousarray(pixels[..., :3]), "RGB")
    outputs = [model.predict({"image": value})["y"] for value in [with_alpha, plain]]
    np.testing.assert_array_equal(np.asarray(outputs[0]), np.asarray(outputs[1]))
    for mode in ["L", "CMYK", "P", "1", "F"]:
        with pytest.raises(cm.InputError, match=f'input `image`.*`RGB`.*`{mode}`.*convert."RGB"'):
            model.predict({"image": plain.convert(mode)})
    with pytest.raises(cm.InputError, match="input `image`.*uint8"):
        model.predict({"image": np.zeros((height, width), np.uint8)})
    with pytest.raises(cm.InputError, match="input `image`"):
        model.predict({"image": "photo.png"})


def test_without_pillow_images_are_arrays() -> None:
    import subprocess
    import sys

    script = (
        "import sys; sys.modules['PIL'] = None\n"
        "import candle_coreml as cm, numpy as np\n"
        f"model = cm.MLModel({str(FEATURES / 'rgb_to_bgr.mlmodel')!r})\n"
        "x = np.arange(np.prod(model.inputs[0].shape), dtype=np.uint8).reshape(model.inputs[0].shape)\n"
        "y = model.predict({'image': x})['y']\n"
        "print(type(y).__name__, y.dtype, y.shape == x.shape)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["ndarray", "uint8", "True"]
