"""Inspecting, compiling, comparing and downloading, against what NumPy computes and what the files say."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import candle_coreml as cm
import numpy as np
import numpy.typing as npt
import pytest
from conftest import BIAS, FEATURES, REPOSITORY, WEIGHT

PACKAGES = REPOSITORY / "fixtures" / "packages"


def test_inspect_tells_what_is_in_a_package(linear: str) -> None:
    inspection = cm.inspect(linear)
    assert inspection["path"] == linear
    assert (inspection["model_kind"], inspection["runs"]) == ("mlProgram", True)
    assert "reason" not in inspection
    (function,) = inspection["functions"]
    assert [feature["name"] for feature in function["inputs"]] == ["x"]
    counts = {row["operator"]: (row["count"], row["supported"]) for row in inspection["operations"]}
    # As coremltools reads the same file.
    ct = pytest.importorskip("coremltools")
    program = ct.models.MLModel(linear, skip_model_load=True).get_spec().mlProgram
    operations: dict[str, int] = {}
    for block in program.functions["main"].block_specializations.values():
        for operation in block.operations:
            operations[operation.type] = operations.get(operation.type, 0) + 1
    assert counts == {name: (count, True) for name, count in operations.items()}
    assert list(inspection["opsets"]) == ["main"]


def test_inspect_says_why_a_model_does_not_run() -> None:
    bad = REPOSITORY / "fixtures" / "bad" / "unknown_operation.mlmodel"
    inspection = cm.inspect(bad)
    assert inspection["runs"] is False and inspection["reason"]
    assert any(not row["supported"] for row in inspection["operations"])
    classifier = cm.inspect(FEATURES / "classifier.mlpackage")
    assert classifier["labels"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cm.inspect("nowhere.mlpackage")
    with pytest.raises(cm.ModelError):
        cm.inspect(REPOSITORY / "fixtures" / "bad" / "not_a_model.mlmodel")


def test_a_compiled_model_computes_the_same(linear: str, tmp_path: Path) -> None:
    x = np.linspace(-2, 3, 6, dtype=np.float32).reshape(2, 3)
    compiled, package = tmp_path / "a.mlmodelc", tmp_path / "a.mlpackage"
    cm.compile(linear, compiled)
    cm.decompile(compiled, package)
    for path in [compiled, package]:
        np.testing.assert_allclose(cm.MLModel(path).predict({"x": x})["y"], x @ WEIGHT + BIAS, rtol=1e-5)
    with pytest.raises(FileExistsError, match="already exists") as raised:
        cm.compile(linear, compiled)
    assert raised.value.filename == str(compiled)
    cm.compile(linear, compiled, overwrite=True)
    cm.decompile(compiled, package, overwrite=True)
    assert cm.inspect(package)["container"] != cm.inspect(compiled)["container"]


def test_what_can_not_be_compiled_is_told_with_what_to_do(tmp_path: Path) -> None:
    # A model of version 1 with an empty neural network, field 500 of the message.
    network = tmp_path / "network.mlmodel"
    network.write_bytes(b"\x08\x01\x12\x00\xa2\x1f\x00")
    assert cm.inspect(network)["model_kind"] == "neuralNetwork"
    with pytest.raises(NotImplementedError, match='neural network.*convert_to="mlprogram"'):
        cm.compile(network, tmp_path / "a.mlmodelc")
    with pytest.raises(FileNotFoundError):
        cm.compile(tmp_path / "nowhere.mlmodel", tmp_path / "a.mlmodelc")
    with pytest.raises(cm.Error, match="not a compiled one"):
        cm.decompile(network, tmp_path / "a.mlpackage")
    assert list(tmp_path.iterdir()) == [network]


@pytest.fixture(scope="module")
def scaled(build: Callable[..., str]) -> Callable[[float], str]:
    """A model of `y = tanh(x * factor) + 1`, in three operations."""
    from coremltools.converters.mil import Builder as mb

    made: dict[float, str] = {}

    def of(factor: float) -> str:
        @mb.program(input_specs=[mb.TensorSpec((2, 3))])
        def program(x: Any) -> Any:
            a = mb.mul(x=x, y=np.float32(factor), name="first")
            return mb.add(x=mb.tanh(x=a, name="second"), y=np.float32(1), name="y")

        if factor not in made:
            made[factor] = build(f"scaled-{factor}", program)
        return made[factor]

    return of


def measures(got: npt.NDArray[Any], reference: npt.NDArray[Any]) -> dict[str, float]:
    """By their definitions."""
    got, reference = got.astype(np.float64), reference.astype(np.float64)
    difference = got - reference
    error = np.sqrt(np.mean(difference**2) / np.mean(reference**2))
    return {
        "elements": got.size,
        "differing": int((difference != 0).sum()),
        "max_abs": np.abs(difference).max(),
        "relative": np.abs(difference).max() / np.abs(reference).max(),
        "error": error,
        "cosine": (got * reference).sum() / np.linalg.norm(got) / np.linalg.norm(reference),
        "snr_db": 10 * np.log10((reference**2).sum() / (difference**2).sum()),
    }


def check(difference: cm.Difference, got: npt.NDArray[Any], reference: npt.NDArray[Any]) -> None:
    for name, value in measures(got, reference).items():
        assert getattr(difference, name) == pytest.approx(value, rel=1e-4), name
        assert difference.to_dict()[name] == getattr(difference, name)
    assert (difference.nan, difference.infinite, difference.words) == (0, 0, None)


def test_numbers_of_a_comparison_are_those_of_numpy(scaled: Callable[[float], str]) -> None:
    x = np.array([[0.1, -0.2, 0.3], [1.0, 0.5, -2.0]], np.float32)
    comparison = cm.compare(scaled(0.75), scaled(1.25), {"x": x}, per_op=True)
    expected = {
        "first": (x * 1.25, x * 0.75),
        "second": (np.tanh(x * 1.25), np.tanh(x * 0.75)),
        "y": (np.tanh(x * 1.25) + 1, np.tanh(x * 0.75) + 1),
    }
    (output,) = comparison.outputs
    assert (output.name, output.operation, output.operator) == ("y", None, None)
    check(output, *expected["y"])
    assert comparison.operations is not None
    assert [(of.operation, of.operator) for of in comparison.operations] == [
        ("first", "mul"),
        ("second", "tanh"),
        ("y", "add"),
    ]
    for difference in comparison.operations:
        assert difference.operation is not None
        check(difference, *expected[difference.operation])
    assert comparison.parts_at is not None and comparison.parts_at.operation == "first"
    assert comparison.inputs == {"x": "given"}
    assert (comparison.reference, comparison.other) == (scaled(0.75), scaled(1.25))
    assert output.error is not None
    assert not comparison.within() and comparison.within(output.error * 1.01)
    assert not comparison.within(output.error * 0.99)
    assert "part at operation `first` (mul)" in str(comparison)


def test_a_model_is_the_same_as_itself_and_inputs_are_made_up(scaled: Callable[[float], str]) -> None:
    model = cm.MLModel(scaled(0.75))
    comparison = cm.compare(model, scaled(0.75), per_op=True, tolerance=0.0)
    assert comparison.within() and comparison.parts_at is None
    assert comparison.inputs == {"x": "random numbers from -1 to 1"}
    assert comparison.outputs[0].snr_db == float("inf")
    assert comparison.to_dict()["within"] is True
    assert "the same" in str(comparison)


def test_rounding_is_what_is_compared_without_another_model(halves: str) -> None:
    x = np.array([[1.0, 2.0, 30000.0], [0.1, 0.2, 0.3]], np.float16)
    comparison = cm.compare(halves, inputs={"x": x}, per_op=True)
    # 90000 is beyond float16, as an output and as the result of the operation.
    assert comparison.outputs[0].infinite == 0
    assert comparison.operations is not None and comparison.operations[-1].operator == "mul"
    again = cm.compare(cm.MLModel(halves), inputs={"x": x})
    assert again.to_dict()["outputs"] == comparison.to_dict()["outputs"]
    assert cm.compare(halves, strict_fp16=False).within(0.0)


def test_saved_outputs_are_compared(scaled: Callable[[float], str], tmp_path: Path) -> None:
    x = np.array([[0.1, -0.2, 0.3], [1.0, 0.5, -2.0]], np.float32)
    y = np.tanh(x * 0.75) + 1
    wrong = y + np.float32(0.25)
    for name, array in [("right", y), ("wrong", wrong)]:
        np.savez(tmp_path / f"{name}.npz", y=array)
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "y.npy", array)
    right: list[Any] = [{"y": y}, tmp_path / "right.npz", tmp_path / "right"]
    for saved in right:
        assert cm.compare(scaled(0.75), saved, {"x": x}).within(1e-5)
    others: list[Any] = [{"y": wrong}, tmp_path / "wrong.npz", str(tmp_path / "wrong")]
    for saved in others:
        check(cm.compare(scaled(0.75), saved, {"x": x}).outputs[0], wrong, y)
        # The other way round, the saved ones are what the model should give.
        check(cm.compare(saved, scaled(0.75), {"x": x}).outputs[0], y, wrong)
    missing, unknown = cm.compare(scaled(0.75), {"z": y}, {"x": x}).outputs
    assert missing.words is not None and "only the reference" in missing.words and missing.error is None
    assert unknown.name == "z" and not unknown.within(1e9)
    shape = cm.compare(scaled(0.75), {"y": y[0]}, {"x": x}).outputs[0]
    assert shape.words is not None and "[3]" in shape.words


def test_classes_and_images_that_were_saved_are_compared() -> None:
    model = cm.MLModel(FEATURES / "classifier.mlpackage")
    comparison = cm.compare(model, cm.MLModel(FEATURES / "classifier.mlpackage"))
    assert comparison.within(0.0)
    image = cm.MLModel(FEATURES / "rgb_to_bgr.mlmodel")
    (feature,) = image.inputs
    assert feature.shape is not None
    pixels = np.random.default_rng(0).integers(0, 256, feature.shape, np.uint8)
    given = {feature.name: pixels}
    outputs = image.predict(given)
    assert cm.compare(image, outputs, given).within(0.0)
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    assert cm.compare(image, arrays, given).within(0.0)


def test_what_can_not_be_compared_is_told(scaled: Callable[[float], str], linear: str, integers: str) -> None:
    with pytest.raises(cm.InputError, match="one of both has to be a model"):
        cm.compare({"y": np.zeros(1)}, {"y": np.zeros(1)})
    with pytest.raises(cm.InputError, match="per_op.*two models"):
        cm.compare(scaled(0.75), {"y": np.zeros((2, 3))}, per_op=True)
    with pytest.raises(cm.InputError, match="per_op"):
        cm.compare(scaled(0.75), scaled(0.75)).plot()
    with pytest.raises(cm.InputError, match="tolerance"):
        cm.compare(linear, tolerance=-1.0)
    with pytest.raises(cm.UnknownNameError, match="`z`"):
        cm.compare(scaled(0.75), inputs={"z": np.zeros(1)})
    with pytest.raises(cm.InputError, match="`x`"):
        cm.compare(linear, integers, {"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(cm.InputError, match="output `y`"):
        cm.compare(scaled(0.75), {"y": np.array(["a"])})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cm.compare(linear, "nowhere.mlpackage")
    token = cm.CancelToken()
    token.cancel()
    with pytest.raises(cm.CancelledError):
        cm.compare(linear, cancel=token)


def test_states_start_at_zero_in_both(counter: str) -> None:
    comparison = cm.compare(counter, strict_fp16=False, per_op=True)
    assert comparison.within(0.0) and comparison.operations


def test_a_plot_shows_where_two_models_part(scaled: Callable[[float], str], tmp_path: Path) -> None:
    comparison = cm.compare(scaled(0.75), scaled(1.25), per_op=True)
    path = tmp_path / "plot.svg"
    text = comparison.plot(path)
    assert path.read_text() == text == comparison._repr_svg_()
    root = ElementTree.fromstring(text)
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert comparison.operations is not None
    assert [title.split(" ")[0] for title in titles] == [of.operation for of in comparison.operations]
    words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(word.startswith("They part at first (mul)") for word in words)
    assert cm.compare(scaled(0.75), scaled(0.75))._repr_svg_() is None
    with pytest.raises(OSError, match="nowhere"):
        comparison.plot(tmp_path / "nowhere" / "plot.svg")


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one model, `org/name`, of one small file."""

    content = json.dumps({"a": 1}).encode()
    commit = "c" * 40

    def do_GET(self) -> None:
        import hashlib

        blob = hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()
        files = {"type": "file", "path": "config.json", "size": len(self.content), "oid": blob}
        if self.path.startswith("/api/models/org/name/revision/"):
            self.answer(json.dumps({"id": "org/name", "sha": self.commit, "siblings": []}).encode())
        elif self.path.startswith("/api/models/org/name/tree/"):
            self.answer(json.dumps([files]).encode())
        elif self.path.startswith("/org/name/resolve/"):
            self.answer(self.content)
        else:
            self.send_error(404)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache of a hub on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    yield tmp_path / "cache"
    server.shutdown()


def test_models_are_downloaded_with_their_progress(hub: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = cm.download("org/name", include=["*.json"], progress=lambda *bytes: told.append(bytes))
    assert (Path(path) / "config.json").read_bytes() == Hub.content
    assert hub in Path(path).parents
    assert told[0] == (0, len(Hub.content)) and told[-1] == (len(Hub.content), len(Hub.content))
    # Without the hub, out of the cache.
    assert cm.download("org/name@main", include=["*.json"], offline=True) == path
    copied = cm.download("org/name", include=["*.json"], to=tmp_path / "copy")
    assert (Path(copied) / "config.json").read_bytes() == Hub.content


def test_downloads_that_fail_say_why(hub: Path) -> None:
    with pytest.raises(cm.DownloadError, match="org/other"):
        cm.download("org/other")
    with pytest.raises(OSError, match="not completely in the cache"):
        cm.download("org/name", offline=True)
    with pytest.raises(cm.DownloadError, match="a b"):
        cm.download("a b")

    def broken(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cm.download("org/name", include=["*.json"], progress=broken)
    token = cm.CancelToken()
    token.cancel()
    with pytest.raises(cm.CancelledError):
        cm.download("org/name", include=["*.json"], cancel=token)
