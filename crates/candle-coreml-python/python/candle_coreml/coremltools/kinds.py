"""Models of the kinds that coremltools has: ML Programs, pipelines of them, and others, which are not
computed but can be compiled and described."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from .. import Feature, MLModel, inspect
from ..errors import UnsupportedError
from .compiled import PIPELINES, compile_model, stages_in


class Model(Protocol):
    """What an `Engine` asks of a model; `candle_coreml.MLModel` has it."""

    @property
    def inputs(self) -> tuple[Feature, ...]: ...
    @property
    def states(self) -> tuple[Feature, ...]: ...
    def make_state(self) -> Any: ...
    def predict(self, inputs: Any, state: Any = None) -> Any: ...


def load(path: Path, directory: Path, function_name: str | None = None, **options: Any) -> Model:
    """Loads a model of any kind.

    Args:
        path: A `.mlpackage`, `.mlmodel` or `.mlmodelc`.
        directory: Where a pipeline may be compiled to. It stays as long as the model is used.
        function_name: The function to run, if not the default one.
        options: As `candle_coreml.MLModel` takes them.

    Raises:
        Error: The model can't be read, or is an ML Program that can't be computed.
    """
    try:
        return MLModel(path, function_name=function_name, **options)
    except UnsupportedError as error:
        kind = inspect(path)["model_kind"]
        if kind == "mlProgram":
            raise
        return Pipeline(path, directory, **options) if kind in PIPELINES else NotComputed(error)


class Pipeline:
    """Models that run one after the other, each on the pipeline's inputs and what those before it gave."""

    def __init__(self, path: Path, directory: Path, **options: Any) -> None:
        if path.suffix != ".mlmodelc":
            compiled = directory / "pipeline.mlmodelc"
            compile_model(path, compiled)
            path = compiled
        self._stages = [load(stage, stage, **options) for stage in stages_in(path)]
        (function,) = inspect(path)["functions"]
        self._outputs = [feature["name"] for feature in function["outputs"]]
        taken = {feature.name: feature for stage in reversed(self._stages) for feature in stage.inputs}
        self.inputs = tuple(
            taken[feature["name"]] for feature in function["inputs"] if feature["name"] in taken
        )
        self.states: tuple[Feature, ...] = ()

    def make_state(self) -> Any:
        """There are none: `UnsupportedError`."""
        raise UnsupportedError("a pipeline has no states", kind="Unsupported")

    def predict(self, inputs: Any, state: Any = None) -> Any:
        """The outputs by name for inputs by name, or a list of them for a list. Raises as the models do."""
        if state is not None:
            self.make_state()
        return self._run(inputs) if isinstance(inputs, Mapping) else [self._run(one) for one in inputs]

    def _run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(inputs)
        for stage in self._stages:
            taken = {feature.name: values[feature.name] for feature in stage.inputs if feature.name in values}
            values.update(stage.predict(taken))
        return {name: values[name] for name in self._outputs}


class NotComputed:
    """A model of a kind that is not computed. It warns when it is loaded, and fails when it is used.

    Args:
        error: Why.
    """

    inputs: tuple[Feature, ...] = ()
    states: tuple[Feature, ...] = ()

    def __init__(self, error: UnsupportedError) -> None:
        self._error = error
        message = f"You will not be able to run predict() on this Core ML model. {error}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def make_state(self) -> Any:
        """Raises `UnsupportedError`."""
        self.predict({})

    def predict(self, inputs: Any, state: Any = None) -> Any:
        """Raises `UnsupportedError`."""
        raise UnsupportedError(str(self._error), kind=self._error.kind) from self._error
