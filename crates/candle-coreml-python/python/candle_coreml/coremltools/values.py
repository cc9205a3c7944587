"""Values between coremltools and this package: coremltools hands over, and expects, what Core ML's arrays and
buffers can hold."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import Feature


def to_model(value: Any, feature: Feature | None) -> Any:
    """A value of coremltools as `MLModel.predict` and `MLState.write_state` take it.

    Args:
        value: Arrays may be of any numeric dtype; they become the feature's.
        feature: What the value is for. None if there is no such name, which the model will say.
    """
    if feature is None:
        return value
    if feature.type in ("multi_array", "state"):
        return _array(value, feature)
    if feature.type == "image":
        return _image(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {_plain(key): float(number) for key, number in value.items()}
    return _plain(value)


def from_model(value: Any) -> Any:
    """An output or a state as coremltools hands it on: arrays of a dtype that Core ML's arrays have, and of
    at least one dimension; images of colours with a fourth, opaque, channel."""
    if isinstance(value, np.ndarray):
        return _core_ml_array(value)
    if getattr(value, "mode", None) == "RGB":
        return value.convert("RGBA")
    return value


def _array(value: Any, feature: Feature) -> Any:
    """An array of the feature's dtype. coremltools' users send floats for integers, too, and infinities where
    a number is too large: so does Core ML."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or feature.dtype is None:
        raise TypeError(f"value type not convertible: {type(value).__name__} for {feature.name!r}")
    with np.errstate(all="ignore"):
        return array.astype(feature.dtype, copy=False)


def _image(value: Any) -> Any:
    """An image without its transparency, which Core ML ignores; floats as the halves of Core ML's buffers."""
    mode = getattr(value, "mode", None)
    if mode == "RGBA":
        return value.convert("RGB")
    if mode == "F":
        from PIL import Image

        with np.errstate(over="ignore"):
            return Image.fromarray(np.asarray(value, np.float16).astype(np.float32))
    if mode not in ("RGB", "L"):
        what = type(value).__name__ if mode is None else f"an image of mode {mode}"
        raise TypeError(f"value type not convertible: {what}")
    return value


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own."""
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _core_ml_array(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iub" and array.dtype != np.int8:
        array = array.astype(np.int32, copy=False)
    return np.atleast_1d(array)
