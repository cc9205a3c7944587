"""`Predictor`, alone and in Ray Data, and the examples of docs/batch.md. Values are compared with NumPy's."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import candle_coreml as cm
from candle_coreml.ray import Predictor

pytest.importorskip("coremltools")

import coremltools as ct  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import get_new_symbol  # noqa: E402

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "batch.md"
STATEFUL = Path(__file__).resolve().parents[2] / "coreml-format" / "tests" / "fixtures" / "stateful.mlpackage"
GENERATOR = np.random.default_rng(7)
WEIGHT = GENERATOR.standard_normal((3, 4)).astype(np.float32)
BIAS = GENERATOR.standard_normal(3).astype(np.float32)
X = GENERATOR.standard_normal((37, 4)).astype(np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    """What the regression computes: [n, 4] → [n, 3]."""
    return x.astype(np.float64) @ WEIGHT.T.astype(np.float64) + BIAS


def save(path: Path, program: Any, **options: Any) -> Path:
    """Converts a program of coremltools' builder, with fp32."""
    model = ct.convert(
        program,
        compute_precision=ct.precision.FLOAT32,
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
        **options,
    )
    model.save(str(path))
    return path


def save_regression(path: Path, rows: Any) -> Path:
    """`x` [rows, 4] → `y` [rows, 3]; `rows` is a size, a list of sizes, or a range of them."""
    symbol = rows if isinstance(rows, int) else get_new_symbol()

    @mb.program(input_specs=[mb.TensorSpec((symbol, 4))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        return mb.linear(x=x, weight=WEIGHT, bias=BIAS, name="y")

    if isinstance(rows, list):
        return save(path, program, inputs=[ct.TensorType("x", ct.EnumeratedShapes([(n, 4) for n in rows]))])
    return save(path, program, inputs=[ct.TensorType("x", (rows, 4))])


def describe_anew(package: Path, change: Callable[[Any], None]) -> None:
    """Changes the description of a package's model."""
    spec = ct.utils.load_spec(str(package))
    change(spec.description)
    (package / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of the examples."""
    folder = tmp_path_factory.mktemp("models")
    save_regression(folder / "regression.mlpackage", ct.RangeDim(1, 16))
    return folder


@pytest.fixture(scope="module")
def flexible(models: Path) -> Path:
    return models / "regression.mlpackage"


@pytest.mark.parametrize(
    "rows", [1, 8, [1, 8], [2, 4], ct.RangeDim(1, 16), ct.RangeDim(5, 16), ct.RangeDim(1, 100)], ids=str
)
def test_rows_without_the_first_dimension_are_predicted_together(tmp_path: Path, rows: Any) -> None:
    predictor = Predictor(save_regression(tmp_path / "regression.mlpackage", rows))
    for count in (37, 3, 1):
        batch = {"id": np.arange(count), "x": X[:count]}
        predicted = predictor(batch)
        assert list(predicted) == ["id", "x", "y"]
        assert predicted["y"].dtype == np.float32
        np.testing.assert_allclose(predicted["y"], expected(X[:count]), rtol=1e-5, atol=1e-6)


def test_whole_rows_are_predicted_one_by_one(flexible: Path) -> None:
    rows = [X[:3], X[3:10], X[10:11]]
    ragged = np.empty(3, object)
    ragged[:] = rows
    for column in (rows, ragged, [row.tolist() for row in rows]):
        predicted = Predictor(flexible)({"x": column})["y"]
        assert predicted.shape == (3,)
        for got, row in zip(predicted, rows):
            np.testing.assert_allclose(got, expected(row), rtol=1e-5, atol=1e-6)

    same = Predictor(flexible)({"x": X[:36].reshape(6, 6, 4)})["y"]
    np.testing.assert_allclose(same, expected(X[:36]).reshape(6, 6, 3), rtol=1e-5, atol=1e-6)


def test_columns_may_be_lists_other_types_and_read_only(flexible: Path) -> None:
    read_only = X.copy()
    read_only.flags.writeable = False
    objects = np.empty(len(X), object)
    objects[:] = list(X)
    for column in (X.tolist(), objects, X.astype(np.float64), np.asfortranarray(X), read_only):
        predicted = Predictor(flexible)({"x": column})["y"]
        np.testing.assert_allclose(predicted, expected(X), rtol=1e-5, atol=1e-6)


def test_a_batch_without_rows_has_no_predictions(flexible: Path) -> None:
    predicted = Predictor(flexible)({"x": X[:0]})
    assert len(predicted["y"]) == 0


def test_columns_can_have_other_names(flexible: Path) -> None:
    predicted = Predictor(flexible, inputs={"x": "features"}, outputs={"y": "x"})({"features": X})
    assert list(predicted) == ["features", "x"]
    np.testing.assert_allclose(predicted["x"], expected(X), rtol=1e-5, atol=1e-6)
    with pytest.raises(cm.UnknownNameError, match="the model has no input `z`, but `x`"):
        Predictor(flexible, inputs={"z": "features"})


def test_errors_name_column_and_row(flexible: Path) -> None:
    predictor = Predictor(flexible, inputs={"x": "features"})
    with pytest.raises(cm.UnknownNameError, match="no column `features` for the input `x`, but `id`, `y`"):
        predictor({"id": [1], "y": X[:1]})
    with pytest.raises(cm.InputError, match="column `features`, row 2: its lists are of different lengths"):
        predictor({"features": [[1.0] * 4, [2.0] * 4, [[1.0], 2.0, 3.0, 4.0]]})
    with pytest.raises(cm.InputError, match="column `features`, row 1: it is None"):
        predictor({"features": [X[0], None, X[2]]})
    rows = [X[:3], X[:5], X[:17], X[:2]]
    with pytest.raises(cm.InputError, match="^column `features`, row 2: .*17") as error:
        predictor({"features": rows})
    assert error.value.name == "x"
    with pytest.raises(cm.DtypeError, match="^column `features`, rows 0 to 15: "):
        predictor({"features": X.astype(np.complex64)})
    with pytest.raises(TypeError, match="batch_format='numpy'"):
        predictor([X])  # type: ignore[arg-type]


def test_outputs_without_rows_are_refused_for_rows_together(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((get_new_symbol(), 4))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        return mb.reduce_sum(x=x, axes=[0], keep_dims=False, name="y")

    path = save(tmp_path / "sum.mlpackage", program, inputs=[ct.TensorType("x", (ct.RangeDim(1, 64), 4))])
    with pytest.raises(cm.InputError, match="output `y`: its shape is .* for 37 rows"):
        Predictor(path)({"x": X})
    predicted = Predictor(path)({"x": X[None]})["y"]
    np.testing.assert_allclose(predicted, X.sum(0)[None], rtol=1e-5, atol=1e-6)


def test_classes_and_probabilities(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1, 4))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        return mb.softmax(x=mb.linear(x=x, weight=WEIGHT, bias=BIAS), axis=-1, name="probabilities")

    names = ["ant", "bee", "cat"]
    path = save(tmp_path / "classes.mlpackage", program, classifier_config=ct.ClassifierConfig(names))
    predicted = Predictor(path)({"x": X})
    scores = np.exp(expected(X))
    scores /= scores.sum(1, keepdims=True)
    assert predicted["classLabel"].tolist() == [names[best] for best in scores.argmax(1)]
    for row, probabilities in zip(scores, predicted["classLabel_probs"]):
        assert list(probabilities) == names
        np.testing.assert_allclose(list(probabilities.values()), row, rtol=1e-5)


def test_images(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1, 3, 5, 6))], opset_version=ct.target.iOS16)
    def program(image: Any) -> Any:
        return mb.sub(x=np.float32(255), y=image, name="negative")

    image = ct.ImageType("image", (1, 3, 5, 6), color_layout=ct.colorlayout.RGB)
    path = save(tmp_path / "negative.mlpackage", program, inputs=[image])

    def give_an_image(description: Any) -> None:
        description.output[0].type.CopyFrom(description.input[0].type)

    describe_anew(path, give_an_image)
    pixels = GENERATOR.integers(0, 256, (4, 5, 6, 3), np.uint8)
    predicted = Predictor(path)({"image": pixels})["negative"]
    assert predicted.dtype == np.uint8
    np.testing.assert_array_equal(predicted, 255 - pixels)


def test_none_leaves_out_an_optional_input(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec((1, 4)), mb.TensorSpec((1, 4))], opset_version=ct.target.iOS16)
    def program(x: Any, offset: Any) -> Any:
        return mb.add(x=x, y=offset, name="y")

    path = save(tmp_path / "sum.mlpackage", program)

    def make_optional(description: Any) -> None:
        kind = next(feature for feature in description.input if feature.name == "offset").type
        kind.isOptional = True
        kind.multiArrayType.floatDefaultValue = 5.0

    describe_anew(path, make_optional)
    predictor = Predictor(path)
    offset = [X[4], None, X[5]]
    predicted = predictor({"x": X[:3], "offset": offset})["y"]
    np.testing.assert_array_equal(predicted, X[:3] + np.stack([X[4], np.full(4, 5, np.float32), X[5]]))
    np.testing.assert_array_equal(predictor({"x": X[:3]})["y"], X[:3] + np.float32(5))


def test_models_with_states_are_refused() -> None:
    with pytest.raises(cm.UnsupportedError, match="the model has states"):
        Predictor(STATEFUL)


class Mortal(Predictor):
    """Ends its process by SIGKILL once, with a batch that it has predicted but not given back."""

    def __init__(self, path: Path, marker: Path) -> None:
        super().__init__(path)
        self.marker = marker

    def __call__(self, batch: Any) -> dict[str, Any]:
        predicted = super().__call__(batch)
        if 500 in batch["id"] and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        threads = self.model.__getnewargs_ex__()[1]["threads"]
        count = len(batch["id"])
        return {**predicted, "process": np.full(count, os.getpid()), "threads": np.full(count, threads)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this machine, with the modules of this process; a CPU for each of two actors, and one to read."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        ray.init(num_cpus=3, include_dashboard=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def test_ray_predicts_each_row_once_though_a_worker_is_killed(
    cluster: Any, flexible: Path, tmp_path: Path
) -> None:
    x = np.random.default_rng(3).standard_normal((1000, 4)).astype(np.float32)
    rows = [{"id": id, "x": row} for id, row in enumerate(x)]
    predicted = (
        cluster.data.from_items(rows, override_num_blocks=10)
        .map_batches(
            Mortal,
            fn_constructor_args=(flexible, tmp_path / "killed"),
            compute=cluster.data.ActorPoolStrategy(size=2),
            num_cpus=1,
            batch_size=50,
        )
        .take_all()
    )
    assert (tmp_path / "killed").exists()
    assert sorted(row["id"] for row in predicted) == list(range(len(x)))
    assert len({row["process"] for row in predicted}) >= 2
    assert {row["threads"] for row in predicted} == {1}, "an actor has one CPU"
    for row in predicted:
        np.testing.assert_array_equal(row["x"], x[row["id"]])
        np.testing.assert_allclose(row["y"], expected(x[row["id"]]), rtol=1e-5, atol=1e-5)


def examples() -> list[Any]:
    """The examples of the document, with the package that each needs."""
    found = re.findall(r"<!-- runs: (\w+) -->\n```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert [package for package, _ in found] == ["ray", "daft", "pyspark"]
    return [pytest.param(*example, id=example[0]) for example in found]


@pytest.mark.parametrize(("package", "example"), examples())
def test_example_of_the_document(package: str, example: str, models: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    saved = tmp_path / "result.npy"
    script = tmp_path / "example.py"
    script.write_text(f"{example}\nnp.save({str(saved)!r}, [result[id] for id in range(100)])\n")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYSPARK_PYTHON": sys.executable,
    }
    done = subprocess.run(
        [sys.executable, script], cwd=models, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    x = np.repeat(np.arange(100, dtype=np.float32)[:, None], 4, axis=1)
    np.testing.assert_allclose(np.load(saved), expected(x), rtol=1e-5, atol=1e-5)
