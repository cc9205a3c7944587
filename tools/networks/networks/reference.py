"""What PyTorch gives: in float64, with the weights that the Core ML model has."""

import copy
import math

import numpy as np
import torch
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .recipes import LAYERS, SMALLEST
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


@torch.no_grad()
def with_halves(plain):
    """A copy in float64 whose weights were rounded to float16. Those of norms stay as they are."""
    plain = in_double(plain)
    for module in plain.modules():
        for parameter in () if is_norm(module) else module.parameters(recurse=False):
            parameter.copy_(parameter.half())
    return plain


@torch.no_grad()
def as_converted(plain, inputs, model, precision):
    """A copy in float64 that computes what a model computes."""
    plain = folded(plain, inputs)
    scale_group_norms(plain, model)
    if precision == "fp16":
        plain = with_halves(plain)
    return with_weights_of(plain, model)


@torch.no_grad()
def with_weights_of(plain, model):
    """The network with the weights that a model has.

    Which parameter a weight comes from is found by likeness: of all of its size one is nearly the
    same, turned perhaps, and the others have nothing to do with it.
    """
    left = {name: p for name, p in plain.named_parameters() if p.dim() > 1}
    compressed = list(dense_weights(model))
    for place, (name, weight) in enumerate((*compressed, *plain_weights(model))):
        found = [
            (likeness(way, weight), parameter, way)
            for parameter, p in left.items()
            for way in (p, p.transpose(0, 1))
            if [n for n in way.shape if n > 1] == [n for n in weight.shape if n > 1]
        ]
        best, parameter, way = max(found, key=lambda entry: entry[0], default=(0, None, None))
        if best < 0.5 and place >= len(compressed):
            continue  # The converter made it from others.
        if best < 0.5:
            raise LookupError(f"no parameter is like the compressed weight {name} {weight.shape}")
        way.copy_(torch.from_numpy(weight.reshape(way.shape)))
        del left[parameter]
    return plain


@torch.no_grad()
def folded(plain, inputs):
    """A copy in float64 in which batch norms are part of the convolutions before them, as the converter has it."""
    exact = results(in_double(plain), inputs)
    whole = in_double(plain)
    for pair in normed(whole, inputs):
        fold(*pair)
    if is_same(whole, inputs, exact):
        return whole
    # Some convolution has another reader beside its norm: the converter leaves that one alone.
    single = in_double(plain)
    for pair in normed(single, inputs):
        before = [copy.deepcopy(module.state_dict()) for module in pair]
        had_bias = pair[0].bias is not None
        fold(*pair)
        if not is_same(single, inputs, exact):
            pair[0].bias = pair[0].bias if had_bias else None
            for module, state in zip(pair, before):
                module.load_state_dict(state)
    return single


def is_same(plain, inputs, exact):
    pairs = zip(results(plain, inputs), exact)
    return all(np.abs(x - y).max(initial=0) <= 1e-9 * np.abs(y).max(initial=1e-30) for x, y in pairs)


def fold(convolution, norm):
    """Puts a norm into the convolution before it; nothing is left to do for the norm."""
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=convolution.transposed,
    )
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    if norm.affine:
        norm.weight.fill_(1)
        norm.bias.zero_()


def normed(plain, inputs):
    """Convolutions whose results go into a batch norm, each with that norm."""
    made, pairs = {}, []

    def remember(convolution, _arguments, result):
        made[id(result)] = (convolution, result)

    def look_up(norm, arguments):
        convolution, _ = made.get(id(arguments[0]), (None, None))
        if convolution is not None and norm.running_var is not None:
            pairs.append((convolution, norm))

    hooks = []
    for module in plain.modules():
        if isinstance(module, _ConvNd):
            hooks.append(module.register_forward_hook(remember))
        if isinstance(module, BATCH_NORMS):
            hooks.append(module.register_forward_pre_hook(look_up))
    results(plain, inputs)
    for hook in hooks:
        hook.remove()
    return dict.fromkeys(pairs)


def scale_group_norms(plain, model):
    """coremltools 9.0 writes scale and shift of a group norm as a `batch_norm` of the variance 1, and leaves its
    epsilon at 1e-5."""
    norms = [op for op in model._mil_program.functions["main"].operations if op.op_type == "batch_norm"]
    epsilon = next((op.epsilon.val for op in norms if (op.variance.val == 1).all()), None)
    for module in plain.modules():
        if isinstance(module, torch.nn.GroupNorm) and module.affine and epsilon is not None:
            module.weight.div_(math.sqrt(1 + float(epsilon)))


def likeness(way, weight):
    """The cosine between two weights."""
    a, b = way.detach().numpy().ravel(), weight.ravel()
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-30)


def dense_weights(model):
    """The weights that the compressed ones of a program stand for, as coremltools decompresses them."""
    for op in model._mil_program.functions["main"].operations:
        if is_compressed(op) and not any(is_compressed(user) for user in op.outputs[-1].child_ops):
            yield op.name, np.asarray(decompressed(op), np.float64)


def plain_weights(model):
    """Weights that are not compressed, as the converter has folded and rounded them. Those that groups don't divide
    coremltools 9.0 leaves divided by the scales of their channels (`enable_per_channel_scale`): the model is another
    one then."""
    for op in model._mil_program.functions["main"].operations:
        weight = op.inputs.get({"gather": "x"}.get(op.op_type, "weight")) if op.op_type in LAYERS else None
        if weight is None or weight.val is None or is_compressed(weight.op):
            continue
        value = np.asarray(weight.val)
        if value.dtype.kind == "f" and value.ndim > 1 and value.size >= SMALLEST:
            yield op.name, value.astype(np.float64)


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
