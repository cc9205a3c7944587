"""Exceptions: their classes, their words, and what they carry."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import candle_coreml as cm
import numpy as np
import pytest
from conftest import FEATURES, REPOSITORY

BAD = REPOSITORY / "fixtures" / "bad"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (cm.InputError, ValueError),
        (cm.DtypeError, TypeError),
        (cm.DtypeError, ValueError),
        (cm.UnknownNameError, KeyError),
        (cm.ModelError, ValueError),
        (cm.UnsupportedError, NotImplementedError),
        (cm.PredictionError, RuntimeError),
        (cm.LimitError, MemoryError),
        (cm.CancelledError, RuntimeError),
        (cm.ClosedError, ValueError),
        (cm.ModelNotFoundError, FileNotFoundError),
        (cm.ModelPermissionError, PermissionError),
        (cm.OutputExistsError, FileExistsError),
        (cm.DownloadError, OSError),
    ],
)
def test_each_error_is_also_a_builtin_one(error: type[cm.Error], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin) and issubclass(error, cm.Error)
    made = error("what failed", kind="Limit")
    assert (str(made), made.kind) == ("what failed", "Limit")
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), str(again), again.kind) == (error, "what failed", "Limit")


@pytest.mark.parametrize("case", json.loads((BAD / "cases.json").read_text()), ids=lambda case: case["name"])
def test_broken_models(case: dict[str, object]) -> None:
    path = BAD / str(case["file"])
    with pytest.raises(cm.Error) as caught:
        cm.MLModel(path)
    assert isinstance(caught.value, (cm.ModelError, cm.UnsupportedError, cm.ModelNotFoundError))
    words = case["words"]
    assert isinstance(words, list)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "no.mlpackage"
    with pytest.raises(FileNotFoundError, match="no.mlpackage") as caught:
        cm.MLModel(path)
    assert (caught.value.errno, caught.value.filename) == (2, str(path))
    assert isinstance(caught.value, cm.ModelNotFoundError) and caught.value.kind == "NotFound"


def test_a_kind_that_is_not_computed(tmp_path: Path) -> None:
    ct = pytest.importorskip("coremltools")
    from coremltools.models.neural_network import NeuralNetworkBuilder

    feature = ct.models.datatypes.Array(3)
    builder = NeuralNetworkBuilder([("x", feature)], [("y", feature)])
    builder.add_activation("relu", "RELU", "x", "y")
    path = str(tmp_path / "network.mlmodel")
    ct.models.utils.save_spec(builder.spec, path)
    with pytest.raises(cm.UnsupportedError, match="neural network.*mlprogram") as caught:
        cm.MLModel(path)
    assert isinstance(caught.value, NotImplementedError) and caught.value.kind == "Unsupported"


def test_an_operation_that_fails_is_named(build) -> None:  # type: ignore[no-untyped-def]
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec((4,)), mb.TensorSpec((2,), types.int32)]

    @mb.program(input_specs=specs)
    def program(x, shape):  # type: ignore[no-untyped-def]
        return mb.reshape(x=x, shape=shape, name="y")

    model = cm.MLModel(build("reshape", program))
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(model.predict({"x": x, "shape": [2, 2]})["y"], x.reshape(2, 2))
    with pytest.raises(cm.PredictionError, match="operation `y`") as caught:
        model.predict({"x": x, "shape": [3, 3]})
    error = caught.value
    assert (error.function, error.operation, error.operator) == ("main", "y", "reshape")
    assert isinstance(error, RuntimeError) and error.kind == "InvalidInput"
    again = pickle.loads(pickle.dumps(error))
    assert (again.operation, str(again)) == ("y", str(error))


@pytest.mark.parametrize("threads", [0, 5000, -1])
def test_threads_that_are_none(linear: str, threads: int) -> None:
    with pytest.raises((cm.Error, OverflowError)):
        cm.MLModel(linear, threads=threads)


def test_arguments_of_wrong_types(linear: str) -> None:
    load: Callable[..., object] = cm.MLModel
    for arguments in [(3,), (), (linear, "main")]:
        with pytest.raises(TypeError):
            load(*arguments)
    with pytest.raises(cm.Error):
        cm.MLModel("")


def test_strange_paths(tmp_path: Path) -> None:
    for path in [str(tmp_path), str(tmp_path / "é\u202e\x07.mlpackage"), "/dev/null", "a" * 5000]:
        with pytest.raises(cm.Error) as caught:
            cm.MLModel(path)
        assert "\x07" not in str(caught.value)
    with pytest.raises((cm.Error, ValueError)):
        cm.MLModel("nul\0.mlpackage")


def test_errors_of_cases_have_kinds() -> None:
    with pytest.raises(cm.InputError) as caught:
        cm.MLModel(FEATURES / "classifier.mlpackage").predict({"image": np.zeros((9, 9, 3), np.uint8)})
    assert caught.value.kind == "InvalidInput" and caught.value.name == "image"
