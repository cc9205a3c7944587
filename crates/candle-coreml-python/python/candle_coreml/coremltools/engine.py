"""The class that coremltools hands models and predictions to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

from .. import MLState
from .kinds import load
from .values import from_model, to_model
from .words import PREDICTION, as_runtime_error

if TYPE_CHECKING:
    from coremltools.models.compute_device import MLComputeDevice
    from coremltools.models.compute_plan import MLComputePlan, MLModelStructure
    from coremltools.models.model import MLModelAsset

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Asset:
    """A model that is no file to load: `("path", compiled_model)`, or `("memory", specification, blobs)`
    with the bytes of the model's message and of its weight files by path."""

    payload: tuple[Any, ...]


class State:
    """The states of a stateful model.

    Args:
        state: The model's own object.
        features: The states' descriptions by name.
    """

    def __init__(self, state: MLState, features: Mapping[str, Any]) -> None:
        self._state = state
        self._features = features

    def read_state(self, name: str) -> Array:
        """A copy of a state, float32 for float16.

        Raises:
            RuntimeError: There is no state of the name.
        """
        with as_runtime_error():
            value: Array = from_model(self._state.read_state(name))
            return value

    def write_state(self, name: str, value: Array) -> None:
        """Sets a state, whose dtype the value takes.

        Raises:
            RuntimeError: There is no state of the name, or it has another shape.
        """
        with as_runtime_error():
            self._state.write_state(name, to_model(value, self._features.get(name)))


class Engine:
    """A loaded model with the interface of coremltools' `_MLModelProxy`.

    Whatever goes wrong is a `RuntimeError`, with this package's error as its cause.

    Args:
        path: A `.mlpackage`, `.mlmodel` or `.mlmodelc`; empty if there is an asset.
        compute_units: `ALL`, `CPU_ONLY`, `CPU_AND_GPU` or `CPU_AND_NE`: the CPU computes for all of them.
        function_name: Empty for the default function.
        optimization_hints: Of no effect.
        asset: A model in memory, or a compiled one.
    """

    threads: ClassVar[int | None] = None
    strict_fp16: ClassVar[bool] = False

    def __init__(
        self,
        path: str,
        compute_units: str = "ALL",
        function_name: str = "",
        optimization_hints: Mapping[str, str] | None = None,
        asset: Asset | tuple[Any, ...] | None = None,
    ) -> None:
        started = time.perf_counter_ns()
        with as_runtime_error():
            self._path = Path(path)
            # coremltools deletes the file of a model right after, and may ask for the compiled one later.
            self._file: BinaryIO | None = None
            # What is written for this object, and goes with it.
            self._directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            self._compiled: str | None = None
            if asset is not None:
                self._path = self._path_of(asset.payload if isinstance(asset, Asset) else asset)
            elif self._path.is_file():
                self._file = self._path.open("rb")
            self._model = load(
                self._path,
                Path(self._directory.name),
                function_name or None,
                threads=self.threads,
                strict_fp16=self.strict_fp16,
            )
        self._inputs = {feature.name: feature for feature in self._model.inputs}
        self._load_duration = time.perf_counter_ns() - started
        self._predict_duration: int | None = None

    def _path_of(self, payload: tuple[Any, ...]) -> Path:
        """The path of an asset, written first if it is in memory."""
        if payload[0] == "path":
            return Path(payload[1])
        from .compiled import write_package

        package = Path(self._directory.name) / "model.mlpackage"
        write_package(payload[1], payload[2], package)
        return package

    def predict(self, data: Mapping[str, Any], state: State | None = None) -> dict[str, Any]:
        """All outputs by name.

        Args:
            data: Arrays of any numeric dtype, numbers, texts, dictionaries and PIL images by name.
            state: Of this model, and changed by the prediction.

        Raises:
            RuntimeError: An input is missing or does not fit, or an operation can't be run.
        """
        return self._timed([data], state)[0]

    def batchPredict(self, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The outputs for each of several inputs, in their order. Raises as `predict`."""
        return self._timed(batch, None)

    def _timed(self, batch: Sequence[Mapping[str, Any]], state: State | None) -> list[dict[str, Any]]:
        started = time.perf_counter_ns()
        with as_runtime_error(PREDICTION):
            inputs = [self._to_model(data) for data in batch]
            if len(inputs) == 1:
                outputs = [self._model.predict(inputs[0], None if state is None else state._state)]
            else:
                outputs = self._model.predict(inputs)
        values = [{name: from_model(value) for name, value in output.items()} for output in outputs]
        self._predict_duration = time.perf_counter_ns() - started
        return values

    def _to_model(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {name: to_model(value, self._inputs.get(name)) for name, value in data.items()}

    def newState(self) -> State:
        """The model's states, all zero, independent of others."""
        with as_runtime_error():
            return State(self._model.make_state(), {feature.name: feature for feature in self._model.states})

    def get_load_duration_in_nano_seconds(self) -> int:
        """How long loading took."""
        return self._load_duration

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        """How long the last prediction took; None before the first."""
        return self._predict_duration

    def get_compiled_model_path(self) -> str:
        """The compiled model (`.mlmodelc`), which is there as long as this object is.

        Raises:
            RuntimeError: The model's package is gone, or can't be compiled.
        """
        if self._compiled is None:
            if self._path.suffix == ".mlmodelc":
                self._compiled = str(self._path)
            else:
                self._compiled = self._compile(self._source(), Path(self._directory.name))
        return self._compiled

    def _source(self) -> Path:
        """The model to compile: its file may be gone."""
        if self._file is None:
            return self._path
        copy = Path(self._directory.name) / self._path.name
        self._file.seek(0)
        copy.write_bytes(self._file.read())
        return copy

    @staticmethod
    def _compile(source: Path, directory: Path) -> str:
        from .compiled import compile_model

        compiled = directory / f"{source.stem}.mlmodelc"
        with as_runtime_error("Error compiling model"):
            compile_model(source, compiled)
        return str(compiled)

    @staticmethod
    def compileModel(path: str) -> str:
        """Compiles a model to a new directory, which is the caller's.

        Args:
            path: A `.mlpackage` or `.mlmodel`.

        Raises:
            RuntimeError: It can't be read, or not be compiled.
        """
        return Engine._compile(Path(path), Path(tempfile.mkdtemp()))

    @staticmethod
    def maximum_supported_specification_version() -> int:
        """The newest specification version that is read: iOS 26's."""
        return 10

    @staticmethod
    def auto_set_specification_version(specification: bytes) -> bytes:
        """Lowers the specification version of a model's message: not done here.

        Raises:
            RuntimeError: Always. coremltools warns then, and leaves the version as it is.
        """
        raise RuntimeError("The specification version is left as it is: only Core ML can lower it")

    @staticmethod
    def create_model_asset_from_path(path: str) -> MLModelAsset:
        """An asset of a compiled model."""
        from coremltools.models.model import MLModelAsset

        return MLModelAsset(Asset(("path", path)))

    @staticmethod
    def create_model_asset_from_memory(
        specification: bytes, blobs: Mapping[str, bytes] | None = None
    ) -> MLModelAsset:
        """An asset of a model's message and its weight files by path, such as `weights/weight.bin`."""
        from coremltools.models.model import MLModelAsset

        return MLModelAsset(Asset(("memory", specification, dict(blobs or {}))))

    @staticmethod
    def get_available_compute_devices() -> list[MLComputeDevice]:
        """The devices that compute: the CPU."""
        from .plan import cpu

        return [cpu()]

    @staticmethod
    def get_all_compute_devices() -> list[MLComputeDevice]:
        """The devices there are: the CPU."""
        return Engine.get_available_compute_devices()

    @staticmethod
    def get_model_structure(path: str) -> MLModelStructure:
        """The functions, blocks and operations, or layers, of a model.

        Raises:
            RuntimeError: The model can't be read.
        """
        from .compiled import specification
        from .structure import structure_of

        with as_runtime_error():
            return structure_of(specification(Path(path)))

    @staticmethod
    def get_compute_plan(path: str, compute_units: str = "ALL") -> MLComputePlan:
        """The structure of a model with the estimated costs of its operations.

        Raises:
            RuntimeError: The model can't be read.
        """
        from .compiled import specification
        from .plan import compute_plan

        with as_runtime_error():
            return compute_plan(specification(Path(path)))
