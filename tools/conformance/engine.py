"""An engine with the interface of coremltools' `_MLModelProxy`, which predicts through the example
`predictions` (`crates/candle-coreml/examples/predictions.rs`): see README.md.

`CANDLE_COREML_PREDICTIONS` may name that program; else it is the one that was built last.
"""

import json
import math
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import numpy as np
import PIL.Image

ROOT = Path(__file__).resolve().parents[2]
# The package that a compiled model of `compileModel` holds beside its program's text.
SOURCE = "source"
# What Core ML takes from NumPy.
DTYPES = (np.float32, np.float64, np.int32, np.int8)


def program():
    """The program that predicts."""
    named = os.environ.get("CANDLE_COREML_PREDICTIONS")
    if named:
        return named
    built = [ROOT / "target" / profile / "examples" / "predictions" for profile in ("release", "debug")]
    built = [path for path in built if path.exists()]
    if not built:
        raise RuntimeError("cargo build --release --example predictions: it is not built")
    return str(max(built, key=lambda path: path.stat().st_mtime))


class Process:
    """The process that predicts. It is started when it is first asked, and anew when it died."""

    process = None

    def __init__(self):
        # Models and states that nothing refers to any more. Python may find so in the midst of a request,
        # therefore the next one tells the process.
        self.dropped = []

    def ask(self, request, blobs=()):
        """Sends a request, a line of JSON with blobs behind it; gives the reply and its blobs."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        dropped, self.dropped = self.dropped, []
        request = {**request, "drop": dropped, "blobs": [len(blob) for blob in blobs]}
        head = json.dumps(request)
        try:
            self.process.stdin.write(b"".join([head.encode(), b"\n", *blobs]))
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise RuntimeError(f"the engine died with code {self.process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply, [self.process.stdout.read(size) for size in reply["blobs"]]


PROCESS = Process()


def array_to_json(array, blobs):
    """An array of one of the dtypes that the process reads, and of the shape that it has."""
    blobs.append(np.ascontiguousarray(array).tobytes())
    return {"array": {"blob": len(blobs) - 1, "dtype": array.dtype.name, "shape": array.shape}}


def image_to_json(image, blobs):
    """Pixels of an image, without transparency: Core ML ignores it."""
    if image.mode == "RGBA":
        image = image.convert("RGB")
    if image.mode not in ("RGB", "L", "F"):
        raise RuntimeError(f"value type not convertible: an image of mode {image.mode}")
    pixels = np.asarray(image, np.float16).astype("<f4") if image.mode == "F" else np.asarray(image)
    blobs.append(pixels.tobytes())
    return {"image": {"blob": len(blobs) - 1, "mode": image.mode, "size": image.size}}


def to_json(value, kind, blobs):
    """An input as the process reads it, by what the model's description says of it."""
    if isinstance(value, np.ndarray) and value.dtype in DTYPES:
        declared = kind.get("MultiArray", {}).get("element", "Float32")
        dtype = {"Double": np.float64, "Int32": np.int32, "Int8": np.int32}.get(declared, np.float32)
        # Helpers of the tests send floats to inputs of every type.
        with np.errstate(all="ignore"):
            return array_to_json(value.astype(dtype), blobs)
    if isinstance(value, (int, np.integer)):
        return {"int64": int(value)}
    if isinstance(value, float):
        return {"double": value}
    if isinstance(value, (str, bytes)):
        return {"string": value.decode() if isinstance(value, bytes) else value}
    if isinstance(value, dict):
        plain = lambda key: int(key) if isinstance(key, (int, np.integer)) else key
        return {"dictionary": [[plain(key), float(number)] for key, number in value.items()]}
    if isinstance(value, PIL.Image.Image):
        return image_to_json(value, blobs)
    raise RuntimeError(f"value type not convertible: {type(value).__name__}")


def from_json(value, blobs):
    """An output as Core ML gives it."""
    (kind, content), = value.items()
    if kind == "array":
        array = np.frombuffer(blobs[content["blob"]], content["dtype"]).copy()
        # There is no rank 0 in Core ML.
        return array.reshape(content["shape"] or [1])
    if kind == "image":
        image = PIL.Image.frombytes(content["mode"], content["size"], blobs[content["blob"]])
        return image.convert("RGBA") if content["mode"] == "RGB" else image
    if kind == "dictionary":
        return {key: math.nan if number is None else number for key, number in content}
    return content


class State:
    """States, which live in the process."""

    def __init__(self, number):
        self.number = number

    def read_state(self, name):
        reply, blobs = PROCESS.ask({"do": "read_state", "state": self.number, "name": name})
        return from_json(reply["value"], blobs)

    def write_state(self, name, value):
        blobs = []
        value = array_to_json(np.asarray(value, np.float32), blobs)
        request = {"do": "write_state", "state": self.number, "name": name, "value": value}
        PROCESS.ask(request, blobs)

    def __del__(self):
        PROCESS.dropped.append(self.number)


class Engine:
    """A loaded model."""

    model = None

    def __init__(self, path, compute_units, function_name, optimization_hints, asset):
        if asset is not None:
            path = asset[1] if asset[0] == "path" else package_in_memory(*asset[1:])
        self.path = str(path).rstrip("/")
        request = {"do": "load", "path": source(self.path), "function": function_name or None}
        reply, _ = PROCESS.ask(request)
        self.model = reply["model"]
        self.kinds = {feature["name"]: feature["ty"] for feature in reply["function"]["inputs"]}
        # Kinds without more to say are no objects.
        self.kinds = {name: kind for name, kind in self.kinds.items() if isinstance(kind, dict)}

    def predict(self, data, state):
        blobs = []
        inputs = {name: to_json(value, self.kinds.get(name, {}), blobs) for name, value in data.items()}
        number = state.number if state is not None else None
        request = {"do": "predict", "model": self.model, "state": number, "inputs": inputs}
        try:
            reply, blobs = PROCESS.ask(request, blobs)
        except RuntimeError as error:
            # Core ML's words, which tests look for.
            raise RuntimeError(f"Unable to compute the prediction using ML Program: {error}") from error
        return {name: from_json(value, blobs) for name, value in reply["outputs"].items()}

    def newState(self):
        reply, _ = PROCESS.ask({"do": "new_state", "model": self.model})
        return State(reply["state"])

    def get_compiled_model_path(self):
        return self.compileModel(self.path)

    @staticmethod
    def compileModel(path):
        """A directory with the model and, if it has a program, its text."""
        path = Path(source(str(path).rstrip("/")))
        compiled = Path(tempfile.mkdtemp(suffix=".mlmodelc"))
        kept = compiled / (SOURCE + path.suffix)
        shutil.copytree(path, kept) if path.is_dir() else shutil.copy(path, kept)
        try:
            reply, _ = PROCESS.ask({"do": "mil", "path": str(path)})
            (compiled / "model.mil").write_text(reply["text"])
        except RuntimeError:
            pass  # It has none.
        return str(compiled)

    def __del__(self):
        if self.model is not None:
            PROCESS.dropped.append(self.model)


def source(path):
    """The model that a compiled one was made of; other models as they are."""
    if path.endswith(".mlmodelc"):
        for kept in Path(path).glob(SOURCE + ".ml*"):
            return str(kept)
    return path


def package_in_memory(spec, blobs):
    """Writes a model that is given as bytes to a package: the specification, and weights by path."""
    package = Path(tempfile.mkdtemp(suffix=".mlpackage"))
    data = package / "Data" / "com.apple.CoreML"
    for name, blob in blobs.items():
        file = data / name.removeprefix("@model_path/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(blob)
    data.mkdir(parents=True, exist_ok=True)
    (data / "model.mlmodel").write_bytes(spec)
    number = str(uuid.uuid4())
    entry = {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {number: entry}, "rootModelIdentifier": number}
    (package / "Manifest.json").write_text(json.dumps(manifest))
    return str(package)
