"""What PyTorch gives: in float64, with the weights that the Core ML model has."""

import copy

import numpy as np
import torch
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from .network import Plain
from .recipes import SMALLEST
from .weights import BATCH_NORMS, is_norm


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


def with_weights_in_half(plain):
    """A copy in float64 with the weights of a conversion to fp16: batch norms are folded before these are rounded."""
    return with_halves(folded(plain))


@torch.no_grad()
def with_halves(plain):
    """A copy in float64 whose weights were rounded to float16. Those of norms stay as they are."""
    plain = in_double(plain)
    for module in plain.modules():
        for parameter in () if is_norm(module) else module.parameters(recurse=False):
            parameter.copy_(parameter.half())
    return plain


@torch.no_grad()
def with_weights_of(plain, model, precision):
    """A copy of `plain` in float64 with the weights that a compressed model stands for.

    Which parameter a compressed weight comes from is found by likeness: of all of its size one is nearly the
    same, turned perhaps, and the others have nothing to do with it.
    """
    plain = folded(plain)
    plain = with_halves(plain) if precision == "fp16" else in_double(plain)
    left = {name: p for name, p in plain.named_parameters() if p.dim() > 1}
    for name, weight in (*dense_weights(model), *skipped_weights(model)):
        found = [
            (likeness(way, weight), parameter, way)
            for parameter, p in left.items()
            for way in (p, p.transpose(0, 1))
            if [n for n in way.shape if n > 1] == [n for n in weight.shape if n > 1]
        ]
        best, parameter, way = max(found, key=lambda entry: entry[0], default=(0, None, None))
        if best < 0.5:
            raise LookupError(f"no parameter is like the compressed weight {name} {weight.shape}")
        way.copy_(torch.from_numpy(weight.reshape(way.shape)))
        del left[parameter]
    return plain


def folded(plain):
    """A copy in which batch norms are part of the convolutions before them, as the converter has it."""
    return Plain(fold(copy.deepcopy(plain.module)), plain.call)


def fold(module):
    """Folds a module, or where torch.fx can't trace it, its parts."""
    if not any(isinstance(part, BATCH_NORMS) for part in module.modules()):
        return module
    try:
        return fuse(module)
    except (TraceError, TypeError, NotImplementedError):
        for name, part in module.named_children():
            setattr(module, name, fold(part))
        return module


def likeness(way, weight):
    """The cosine between two weights."""
    a, b = way.detach().numpy().ravel(), weight.ravel()
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-30)


def dense_weights(model):
    """The weights that the compressed ones of a program stand for, as coremltools decompresses them."""
    for op in model._mil_program.functions["main"].operations:
        if is_compressed(op) and not any(is_compressed(user) for user in op.outputs[-1].child_ops):
            yield op.name, np.asarray(decompressed(op), np.float64)


def skipped_weights(model):
    """Weights that were not compressed, as groups don't divide their channels. coremltools 9.0 leaves them divided by
    the scales of their channels (`enable_per_channel_scale`): the model is another one then."""
    for op in model._mil_program.functions["main"].operations:
        weight = op.weight.val if op.op_type in ("conv", "linear") else None
        if weight is not None and not is_compressed(op.weight.op) and weight.size >= SMALLEST:
            yield op.name, np.asarray(weight, np.float64)


def is_compressed(op):
    return op is not None and op.op_type.startswith("constexpr_")


def decompressed(op):
    """What an operation gives, also where one decompresses what another one does: tables, or what is scaled."""
    if op.op_type == "constexpr_lut_to_dense" and is_compressed(op.lut.op):
        axis = None if op.vector_axis is None else op.vector_axis.val
        return op.decompress(op.indices.val, decompressed(op.lut.op), axis)
    if op.op_type == "constexpr_blockwise_shift_scale" and is_compressed(op.data.op):
        return op.decompress(decompressed(op.data.op), op.scale.val, op.offset and op.offset.val)
    return op.materialized_val_inference()
