"""Small pieces of graphs, written with coremltools' MIL builder for iOS 18. All floats are fp16."""

from collections.abc import Callable

import coremltools as ct
import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Var, types

from anemll_export.errors import ExportError
from anemll_export.palettize import Palettized

OPSET = ct.target.iOS18
INDEX_TYPES = {4: types.np_uint4_dtype, 6: types.np_uint6_dtype, 8: np.dtype(np.uint8)}
# The Neural Engine gathers by 16-bit indices; larger tables need 32 bits.
UINT16_ROWS = 1 << 16

Weight = np.ndarray | Palettized


def new_function(inputs: dict, body: Callable[[dict[str, Var]], list[Var]]) -> Function:
    """A function of named placeholders; `body` gets their variables and answers the outputs.

    Core ML wants every declared input read, so one that `body` leaves alone is read for nothing.
    """
    with Function(inputs, opset_version=OPSET) as function:
        outputs = body(function.inputs)
        for name, var in function.inputs.items():
            if not var.child_ops:
                mb.identity(x=var, name=f"{name}_unused")
        function.set_outputs(outputs)
    return function


def half(*shape) -> object:
    """A placeholder of fp16 values."""
    return mb.TensorSpec(shape=shape, dtype=types.fp16)


def integers(*shape) -> object:
    """A placeholder of int32 values."""
    return mb.TensorSpec(shape=shape, dtype=types.int32)


def state(shape: tuple[int, ...]) -> object:
    """A placeholder of an fp16 state."""
    return mb.StateTensorSpec(shape=shape, dtype=types.fp16)


def named(var: Var, name: str) -> Var:
    """`var` under a name that callers see."""
    var.op.name = var.name = name
    return var


def to_fp16(name: str, values: np.ndarray) -> np.ndarray:
    """`values` as fp16; ExportError where one lies outside its range."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    if not np.isfinite(narrow).all():
        raise ExportError(f"weight `{name}` holds values that fp16 cannot; it needs rescaling first")
    return narrow


def constant(name: str, weight: Weight, shape: tuple[int, ...] | None = None) -> Var:
    """A constant of the given shape; the same name in two functions shares one blob record."""
    if not isinstance(weight, Palettized):
        return _shared_const(name, weight if shape is None else weight.reshape(shape))
    groups, entries = weight.tables.shape
    lut_shape = (groups, *[1] * (len(shape) - 1), entries, 1)
    # A view, because the narrow types are uint8 with a mark on the dtype, which `astype` drops.
    indices = weight.indices.reshape(shape).view(INDEX_TYPES[weight.bits])
    return mb.constexpr_lut_to_dense(
        indices=_shared_const(f"{name}_indices", indices),
        lut=_shared_const(f"{name}_lut", weight.tables.reshape(lut_shape)),
        name=f"{name}_palettized",
    )


def _shared_const(name: str, value: np.ndarray) -> Var:
    var = mb.const(val=value, name=name)
    var.op.weight_id = name
    return var


def rms_norm(x: Var, gamma: Var, eps: float, name: str) -> Var:
    """RMSNorm over the last axis: joined with its negation, x has mean 0 and keeps its RMS."""
    axis, width = x.rank - 1, x.shape[-1]
    negated = mb.mul(x=x, y=np.float16(-1), name=f"{name}_negated")
    doubled = mb.concat(values=[x, negated], axis=axis, name=f"{name}_doubled")
    normed = mb.layer_norm(x=doubled, axes=[axis], epsilon=np.float16(eps), name=f"{name}_normed")
    return mb.mul(x=part(normed, axis, 0, width, f"{name}_half"), y=gamma, name=name)


def part(x: Var, axis: int, begin: int, end: int, name: str) -> Var:
    """`x` between `begin` and `end` on one axis, whole on the others."""
    return mb.slice_by_index(
        x=x,
        begin=[0 if other != axis else begin for other in range(x.rank)],
        end=[0 if other != axis else end for other in range(x.rank)],
        end_mask=[other != axis for other in range(x.rank)],
        name=name,
    )


def to_image(x: Var, name: str) -> Var:
    """[1, S, H] to [1, H, 1, S], the layout that convolutions want."""
    channels = mb.transpose(x=x, perm=[0, 2, 1], name=f"{name}_channels")
    return mb.expand_dims(x=channels, axes=[2], name=f"{name}_image")


def from_image(image: Var, name: str) -> Var:
    """[1, H, 1, S] back to [1, S, H]."""
    channels = mb.squeeze(x=image, axes=[2], name=f"{name}_channels")
    return mb.transpose(x=channels, perm=[0, 2, 1], name=name)


def as_index(x: Var, rows: int, name: str) -> Var:
    """Positions or ids in the narrowest type that a table of so many rows allows."""
    if rows > UINT16_ROWS:
        return x
    return mb.cast(x=x, dtype="uint16", name=f"{name}_uint16")


def gather(table: Var, indices: Var, axis: int, name: str) -> Var:
    """Rows of a table."""
    return mb.gather(
        x=table, indices=indices, axis=axis, batch_dims=0, validate_indices=False, name=name
    )


def replace_rows(x: Var, update: Var, begin: Var | list, end: Var | list, whole: list, name: str) -> Var:
    """`x` with the part between `begin` and `end` replaced; `whole` axes have no end."""
    return mb.slice_update(
        x=x,
        update=update,
        begin=begin,
        end=end,
        stride=[1] * x.rank,
        begin_mask=[False] * x.rank,
        end_mask=whole,
        squeeze_mask=[False] * x.rank,
        name=name,
    )


def offsets(values: list[int | Var], name: str) -> Var:
    """A vector of offsets, some of which are known only when the function runs."""
    given = [np.int32([value]) if isinstance(value, int) else value for value in values]
    return mb.concat(values=given, axis=0, name=name)
