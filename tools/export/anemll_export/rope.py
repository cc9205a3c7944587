"""Tables of rotary embeddings, scaled as checkpoints ask for it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RopeScaling:
    """Frequencies divided by `factor`: all of them, or with the other numbers as Llama 3 does.

    Llama 3 leaves waves alone that fit `high` times into the `original` context, divides those that
    fit fewer than `low` times, and blends in between.
    """

    factor: float
    low: float | None = None
    high: float | None = None
    original: float | None = None

    def apply(self, frequencies: np.ndarray) -> np.ndarray:
        """The scaled frequencies, in radians per position."""
        slow = frequencies / self.factor
        if self.original is None:
            return slow
        fits = self.original * frequencies / (2 * np.pi)
        kept = np.clip((fits - self.low) / (self.high - self.low), 0, 1)
        return kept * frequencies + (1 - kept) * slow


def rope_tables(
    width: int, context: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines for every position: fp16 [1, context, width], halves repeated."""
    frequencies = theta ** -(np.arange(0, width, 2) / width)
    if scaling is not None:
        frequencies = scaling.apply(frequencies)
    angles = np.outer(np.arange(context), frequencies)
    angles = np.concatenate((angles, angles), axis=1)[None]
    return np.cos(angles).astype(np.float16), np.sin(angles).astype(np.float16)
