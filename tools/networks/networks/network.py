"""What a network is: how it is built, what it is given, and what it is converted to."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Input:
    """The name and shape of an input; ids below `below` where it is one of integers."""

    name: str
    shape: tuple[int, ...]
    below: int | None = None

    def sample(self, seed, batch=None):
        """Random values: ids, or floats that float16 can hold."""
        rng = np.random.default_rng(seed)
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        if self.below is not None:
            return torch.from_numpy(rng.integers(0, self.below, shape))
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float16).astype(np.float32))


@dataclass(frozen=True)
class Network:
    """`build` gives the module, `call` what a prediction computes with it: tensors."""

    name: str
    build: Callable
    inputs: tuple[Input, ...]
    call: Callable = lambda module, *inputs: module(*inputs)
    frontend: str = "trace"


class Plain(torch.nn.Module):
    """A module whose results are a tuple of tensors."""

    def __init__(self, module, call):
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, *inputs):
        return tensors(self.call(self.module, *inputs))


def tensors(results):
    """The tensors in nested results, in their order."""
    if isinstance(results, torch.Tensor):
        return (results,)
    values = results.values() if hasattr(results, "values") else results
    return tuple(tensor for value in values if value is not None for tensor in tensors(value))


def image(size, channels=3, width=None):
    return (Input("image", (1, channels, size, width or size)),)


def tokens(length, vocabulary):
    return (Input("ids", (1, length), below=vocabulary),)


def features(*shape):
    return (Input("x", shape),)
