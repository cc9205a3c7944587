"""What can go wrong. All exceptions are an `Error`, and each is also of the builtin class that says it in
Python: what is wrong with an array is a `ValueError`, a file that is not there a `FileNotFoundError`."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CancelledError",
    "ClosedError",
    "DownloadError",
    "DtypeError",
    "Error",
    "FileError",
    "InputError",
    "LimitError",
    "ModelError",
    "ModelNotFoundError",
    "ModelPermissionError",
    "OutputExistsError",
    "PredictionError",
    "UnknownNameError",
    "UnsupportedError",
]


class Error(Exception):
    """What all exceptions of this package are."""

    kind: str
    """The library's own sort of the error: `InvalidInput`, `NotFound`, `Denied`, `Unsupported`,
    `BrokenModel`, `Limit`, `Cancelled`, `Unavailable` or `Other`."""

    index: int | None = None
    """Which of a list of inputs it is about, if there was one."""

    def __init__(self, message: str = "", *, kind: str = "Other", **attributes: Any) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        for name, value in attributes.items():
            setattr(self, name, value)

    def at(self, index: int) -> None:
        """Says that it is about this one of a list of inputs."""
        self.index = index
        self.message = f"inputs[{index}]: {self.message}"
        self.args = (self.message,)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), dict(self.__dict__))


def _restored(error: type[Error], attributes: dict[str, Any]) -> Error:
    """An error as it was pickled."""
    return error(**attributes)


class InputError(Error, ValueError):
    """A value does not fit an input, an output or a state."""

    name: str | None = None
    """The input, if it is one's."""

    mismatch: dict[str, Any] | None = None
    """Why a shape does not fit, by `kind`: `rank` (with `expected` and `got`), `out_of_range` (with
    `dimension`, `size` and `allowed`, the smallest and the largest size or None), or `not_enumerated`
    (with `shape` and `allowed`)."""


class DtypeError(InputError, TypeError):
    """A value is of another type than an input takes."""


class UnknownNameError(Error, KeyError):
    """There is no input, output, state or function of a name."""

    name: str | None = None
    """The name."""


class ModelError(Error, ValueError):
    """A model's files are damaged, contradict each other, or say what can't be."""


class UnsupportedError(Error, NotImplementedError):
    """A model is of a kind, or has an operation, that is not computed here."""


class PredictionError(Error, RuntimeError):
    """An operation can't be run on the inputs of a call."""

    function: str
    """The function that ran."""
    operation: str
    """The operation's name."""
    operator: str
    """The operation's operator: `conv`, say."""


class LimitError(Error, MemoryError):
    """More memory, context or threads would be needed than there are."""


class CancelledError(Error, RuntimeError):
    """A call was ended by its token."""


class ClosedError(Error, ValueError):
    """A model that is closed was to be used."""


class FileError(Error, OSError):
    """A file can't be read or written."""


class ModelNotFoundError(FileError, FileNotFoundError):
    """A file, or a model, is not there."""


class ModelPermissionError(FileError, PermissionError):
    """A file may not be read or written."""


class OutputExistsError(FileError, FileExistsError):
    """There is something already where a model was to be written."""


class DownloadError(Error, OSError):
    """A model can't be had from the hub or the cache."""
