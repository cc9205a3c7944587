"""What PyTorch gives: in float64, with the weights that the Core ML model has."""

import copy

import numpy as np
import torch
from torch import nn

from .weights import is_norm


@torch.inference_mode()
def results(plain, inputs, dtype=torch.float64):
    """The network's results as arrays of float64."""
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
    with default_dtype(dtype):
        return [y.double().numpy() for y in plain(*inputs)]


class default_dtype:
    """Tables that a network makes on its way get the precision of everything else."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_):
        torch.set_default_dtype(self.before)


def in_double(plain):
    return copy.deepcopy(plain).double()


@torch.no_grad()
def with_halves(plain):
    """A copy in float64 whose weights were rounded to float16, as the converter does.

    Statistics of norms stay: the converter folds them into other weights before it rounds.
    """
    plain = in_double(plain)
    for module in plain.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or is_norm(module):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.copy_(parameter.half())
    return plain


@torch.no_grad()
def with_weights_of(plain, model):
    """A copy of `plain` in float64 with the weights that a compressed model stands for.

    Which parameter a compressed weight comes from is found by likeness: of all of its shape (or its
    transpose) one is as good as the same, and the others have nothing to do with it.
    """
    plain = in_double(plain)
    left = {name: p for name, p in plain.named_parameters() if p.dim() > 1}
    for name, weight in dense_weights(model):
        likenesses = [
            (likeness(seen, weight), parameter, seen)
            for parameter, p in left.items()
            for seen in views(p, weight.shape)
        ]
        best = max(likenesses, key=lambda entry: entry[0], default=(0, None, None))
        if best[0] < 0.5:
            raise LookupError(f"no parameter is like the compressed weight {name} {weight.shape}")
        best[2].copy_(torch.from_numpy(weight))
        del left[best[1]]
    return plain


def views(parameter, shape):
    """The parameter in ways that the converter may have turned it."""
    if parameter.dim() == 2:
        ways = [parameter, parameter.T]
    else:
        ways = [parameter]
    return [
        way.view(shape) if way.is_contiguous() and way.numel() == np.prod(shape) else way
        for way in ways
        if fits(way, shape)
    ]


def fits(way, shape):
    squeezed = [n for n in way.shape if n > 1], [n for n in shape if n > 1]
    return tuple(way.shape) == tuple(shape) or (way.is_contiguous() and squeezed[0] == squeezed[1])


def likeness(seen, weight):
    """The cosine between two weights; larger ones by a sample of their numbers."""
    a = seen.detach().numpy().ravel()
    b = weight.ravel()
    return abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-30)


def dense_weights(model):
    """What the compressed weights of a program stand for, as coremltools decompresses them."""
    for block in (model._mil_program.functions["main"],):
        for op in block.operations:
            if not op.op_type.startswith("constexpr_"):
                continue
            last = op.outputs[-1]
            if any(user.op_type.startswith("constexpr_") for user in last.child_ops):
                continue
            yield op.name, np.asarray(op.materialized_val_inference(), np.float64)
