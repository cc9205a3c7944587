"""Core ML models on any CPU."""

from ._native import MLModel
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
    "CancelledError",
    "ClosedError",
    "DownloadError",
    "DtypeError",
    "Error",
    "FileError",
    "InputError",
    "LimitError",
    "MLModel",
    "ModelError",
    "ModelNotFoundError",
    "ModelPermissionError",
    "PredictionError",
    "UnknownNameError",
    "UnsupportedError",
]
