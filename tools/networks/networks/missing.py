"""Operations of PyTorch that transformers' masks are made with and that coremltools does not convert."""

from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.frontend.torch.ops import _get_inputs, _get_kwinputs
from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op


@register_torch_op
def new_ones(context, node):
    """Ones of a shape; of the booleans that masks start from, where it has none."""
    size = _get_inputs(context, node)[1]
    if isinstance(size, list):
        size = mb.concat(values=size, axis=0) if size else None
    if size is None or size.shape == (0,):
        return context.add(mb.const(val=True, name=node.name))
    ones = mb.fill(shape=size, value=1.0)
    context.add(mb.cast(x=ones, dtype="int32", name=node.name))


@register_torch_op
def diff(context, node):
    """First differences along the last axis."""
    inputs = _get_inputs(context, node)
    x = inputs[0]
    prepend = inputs[3] if len(inputs) > 3 else _get_kwinputs(context, node, "prepend", default=[None])[0]
    if prepend is not None:
        x = mb.concat(values=[prepend, x], axis=-1)
    rank = x.rank
    ends = dict(begin_mask=[True] * rank, end_mask=[True] * rank, begin=[0] * rank, end=[0] * rank)
    last = dict(ends, begin=[0] * (rank - 1) + [1], begin_mask=[True] * (rank - 1) + [False])
    first = dict(ends, end=[0] * (rank - 1) + [-1], end_mask=[True] * (rank - 1) + [False])
    context.add(mb.sub(x=mb.slice_by_index(x=x, **last), y=mb.slice_by_index(x=x, **first), name=node.name))
