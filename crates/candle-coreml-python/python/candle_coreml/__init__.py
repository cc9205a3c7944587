"""Core ML models on any CPU: `MLModel` loads and runs them. See `docs/python.md` of the project."""

from ._native import CancelToken, Feature, MLModel, MLState
from .errors import (
    CancelledError,
    ClosedError,
    DownloadError,
    DtypeError,
    Error,
    FileError,
    InputError,
    LimitError,
    ModelError,
    ModelNotFoundError,
    ModelPermissionError,
    PredictionError,
    UnknownNameError,
    UnsupportedError,
)

__all__ = [
    "CancelToken",
    "CancelledError",
    "ClosedError",
    "DownloadError",
    "DtypeError",
    "Error",
    "Feature",
    "FileError",
    "InputError",
    "LimitError",
    "MLModel",
    "MLState",
    "ModelError",
    "ModelNotFoundError",
    "ModelPermissionError",
    "PredictionError",
    "UnknownNameError",
    "UnsupportedError",
]
