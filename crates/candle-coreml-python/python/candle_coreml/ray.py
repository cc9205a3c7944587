"""Predictions over the rows of a Ray dataset: `Predictor` for `ray.data.Dataset.map_batches`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import Error, Feature, InputError, MLModel, UnknownNameError, UnsupportedError

__all__ = ["Predictor"]


class Predictor:
    """A class for `Dataset.map_batches`: each actor loads the model once and adds its outputs to the batches.

    Inputs are taken from the columns of their names, and outputs become columns of theirs; `inputs` and
    `outputs` name others, as in `{"image": "pixels"}`. All columns of a batch are kept.

    A row holds a value as the model takes it, or without the first dimension: [3, 224, 224] for an input
    [n, 3, 224, 224]. Then its outputs are without it, too, and as many rows as the model allows for `n` are
    predicted together. Otherwise rows are predicted one by one, in parallel. None leaves out an input that is
    optional.

    Columns of outputs are arrays (one object a row, if rows differ in shape), classes `str` or `int64`,
    images `uint8` [height, width, channels], dictionaries `dict` with their keys as `str`.

    `threads` says how many the model computes on: if not given, as many as the CPUs that Ray has assigned to
    the actor. `options` are those of `MLModel`. Without Ray, a `Predictor` takes any mapping of columns.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        self.model = MLModel(path, threads=threads or _assigned_cpus(), **options)
        if self.model.states:
            raise UnsupportedError(
                f"{os.fspath(path)}: the model has states, which rows that are independent can't share: "
                "use MLModel.predict with a state for each sequence"
            )
        self.inputs = _column_names("input", self.model.inputs, inputs or {})
        self.outputs = _column_names("output", self.model.outputs, outputs or {})

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with a column for each output. Errors name the column and the row in this batch."""
        if not isinstance(batch, Mapping):
            raise TypeError(f"a batch is a {type(batch).__name__}: map_batches needs batch_format='numpy'")
        count = len(next(iter(batch.values()), ()))
        columns = [column for feature in self.model.inputs if (column := self._column(feature, batch))]
        slices = list(self._slices(columns, count))
        results = self._predict(columns, slices)
        is_short = any(column.is_short for column in columns)
        outputs = {}
        for name, output in self.outputs.items():
            parts = [_part(name, result[name], len(rows), is_short) for rows, result in zip(slices, results)]
            outputs[output] = _joined(parts)[:count]
        return {**batch, **outputs}

    def _column(self, feature: Feature, batch: Mapping[str, Any]) -> _Column | None:
        """The column of an input; None if there is none and the input is optional."""
        name = self.inputs[feature.name]
        if name in batch:
            return _Column(name, feature, batch[name])
        if feature.optional:
            return None
        names = ", ".join(f"`{name}`" for name in batch)
        raise UnknownNameError(
            f"there is no column `{name}` for the input `{feature.name}`, but {names}: "
            f"name the one to take with inputs={{'{feature.name}': …}}"
        )

    def _slices(self, columns: list[_Column], count: int) -> Iterator[range]:
        """The rows of each call. The last may reach beyond `count`, and the last row is repeated for it."""
        arrays = all(feature.type == "multi_array" for feature in self.model.outputs)
        start = 0
        while start < count:
            size = min((column.rows_at_once(count - start) for column in columns), default=1) if arrays else 1
            yield range(start, start + size)
            start += size

    def _predict(self, columns: list[_Column], slices: list[range]) -> list[dict[str, Any]]:
        """The outputs for the rows of each slice."""
        calls: list[Mapping[str, object]] = [
            {column.feature.name: column.value(rows) for column in columns if column.has_value(rows)}
            for rows in slices
        ]
        try:
            return self.model.predict(calls)
        except Error as error:
            if error.index is not None:
                message = error.message.removeprefix(f"inputs[{error.index}]: ")
                error.message = f"{self._place(error, slices[error.index])}: {message}"
            raise

    def _place(self, error: Error, rows: range) -> str:
        """Where a prediction of these rows has failed."""
        place = f"row {rows.start}" if len(rows) == 1 else f"rows {rows.start} to {rows.stop - 1}"
        column = self.inputs.get(getattr(error, "name", None) or "")
        return f"column `{column}`, {place}" if column else place


class _Column:
    """The values for an input: an array of all rows, or a sequence, if they differ in shape."""

    def __init__(self, name: str, feature: Feature, values: Sequence[Any]) -> None:
        self.name = name
        self.feature = feature
        self.values = values
        # Whether rows are without the input's first dimension.
        self.is_short = False
        if feature.type == "multi_array":
            self.values = _dense(name, values)
            rank = next((np.ndim(row) for row in self.values if row is not None), None)
            self.is_short = feature.shape is not None and rank == len(feature.shape) - 1

    def rows_at_once(self, left: int) -> int:
        """How many rows the model takes in one call: of the `left` ones, or more if it takes no fewer."""
        shape = self.feature.shape
        if shape is None or not self.is_short or not isinstance(self.values, np.ndarray):
            return 1
        if self.feature.shape_ranges:
            smallest, largest = self.feature.shape_ranges[0]
            return max(smallest, left if largest is None else min(left, largest), 1)
        sizes = [allowed[0] for allowed in self.feature.allowed_shapes or [shape]]
        return max((size for size in sizes if size <= left), default=min(sizes))

    def has_value(self, rows: range) -> bool:
        """Whether the input is given for the first of these rows."""
        if self.values[rows.start] is not None or self.feature.optional:
            return self.values[rows.start] is not None
        raise InputError(
            f"column `{self.name}`, row {rows.start}: it is None, but `{self.feature.name}` is not optional",
            name=self.feature.name,
        )

    def value(self, rows: range) -> Any:
        """What the model is given for these rows."""
        if not self.is_short:
            return self.values[rows.start]
        if not isinstance(self.values, np.ndarray):
            return self.values[rows.start][None]
        if rows.stop > len(self.values):
            return self.values.take(rows, axis=0, mode="clip")
        return self.values[rows.start : rows.stop]


def _dense(name: str, values: Sequence[Any]) -> Any:
    """The arrays of a column as one array, or as a list if they differ in shape or some are None."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values
    rows: list[Any] = []
    for index, value in enumerate(values):
        try:
            rows.append(None if value is None else _array(value))
        except ValueError as error:
            raise InputError(
                f"column `{name}`, row {index}: its lists are of different lengths", name=name
            ) from error
    alike = bool(rows) and all(row is not None and row.shape == rows[0].shape for row in rows)
    return np.stack(rows) if alike else rows


def _array(value: Any) -> Any:
    """Nested lists, which Arrow gives as arrays of arrays, as one array."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return np.stack([_array(part) for part in value])
    return np.asarray(value)


def _part(name: str, value: Any, count: int, is_short: bool) -> Any:
    """The value of an output for `count` rows, as an array with a row for each."""
    if isinstance(value, np.ndarray):
        if is_short and value.ndim > 0 and value.shape[0] == count:
            return value
        if count > 1:
            raise InputError(
                f"output `{name}`: its shape is {value.shape} for {count} rows predicted together: the first "
                "dimension isn't the rows'. Give rows that have all dimensions of the inputs",
                name=name,
            )
        return value[None]
    if isinstance(value, dict):
        value = {str(key): number for key, number in value.items()}
    if type(value).__module__.startswith("PIL."):
        return np.asarray(value)[None]
    if isinstance(value, (str, int, float)):
        return np.array([value])
    row = np.empty(1, object)
    row[0] = value
    return row


def _joined(parts: list[Any]) -> Any:
    """The rows of all parts: one array, or one of objects if they differ in shape."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    rows = np.empty(sum(len(part) for part in parts), object)
    for index, row in enumerate(row for part in parts for row in part):
        rows[index] = row
    return rows


def _column_names(what: str, features: Sequence[Feature], renamed: Mapping[str, str]) -> dict[str, str]:
    """The column of each feature."""
    names = [feature.name for feature in features]
    for name in renamed:
        if name not in names:
            known = ", ".join(f"`{name}`" for name in names)
            raise UnknownNameError(f"the model has no {what} `{name}`, but {known}", name=name)
    return {name: renamed.get(name, name) for name in names}


def _assigned_cpus() -> int | None:
    """How many CPUs this process has as an actor of Ray; None elsewhere."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
