"""Errors as coremltools expects them: of one class, and where Core ML's own words are known, with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Error, InputError

PREDICTION = "Unable to compute the prediction using ML Program"
"""How Core ML begins whatever goes wrong in a prediction."""


@contextmanager
def as_runtime_error(doing: str | None = None) -> Iterator[None]:
    """Errors of this package and of files become a `RuntimeError`, which coremltools catches.

    Args:
        doing: What failed, before the error's own words.
    """
    try:
        yield
    except (Error, OSError, TypeError, ValueError) as error:
        parts = [doing, _core_ml(error), str(error)]
        raise RuntimeError(": ".join(part for part in parts if part)) from error


def _core_ml(error: Exception) -> str | None:
    """What Core ML says of a shape that a model does not take."""
    mismatch = error.mismatch if isinstance(error, InputError) else None
    if mismatch is None:
        return None
    if mismatch["kind"] == "out_of_range":
        smallest, largest = mismatch["allowed"]
        largest = -1 if largest is None else largest
        size, dimension = mismatch["size"], mismatch["dimension"]
        return f"Size ({size}) of dimension ({dimension}) is not in allowed range ({smallest}..{largest})"
    if mismatch["kind"] == "not_enumerated":
        shape = " x ".join(map(str, mismatch["shape"]))
        return f"MultiArray Shape ({shape}) was not in enumerated set of allowed shapes"
    return None
