"""What operations of a program cost, as shares of the whole: an estimate by a rule, nothing is run for it.

An operation computes and moves bytes, and takes as long as the longer of the two: its work is the larger of
the bytes of its arguments and results, and its floating-point operations divided by `BALANCE`. Its cost is
its work divided by that of all operations of its function. Those in blocks of `cond` and `while_loop` count
once. Constants cost nothing and have no cost. A dimension that the program leaves open counts as 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .structure import active_block

if TYPE_CHECKING:
    from coremltools.proto import MIL_pb2

BALANCE = 8
"""How many floating-point operations are done in the time in which a byte is moved."""

Shape = tuple[int, ...]


def costs(function: MIL_pb2.Function) -> Iterator[float | None]:
    """The cost of each operation in the order of `operations`: from 0 to 1, in all 1; None for constants."""
    block = active_block(function)
    types = _types(function)
    work = [_work(operation, types) for operation in operations(block)]
    total = sum(share for share in work if share is not None)
    for share in work:
        yield None if share is None else share / total


def operations(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Operation]:
    """The operations of a block; those of its operations' blocks follow each."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations(inner)


def _types(function: MIL_pb2.Function) -> dict[str, MIL_pb2.ValueType]:
    """The types of a function's values by name."""
    block = active_block(function)
    values = [*function.inputs, *block.inputs]
    for operation in operations(block):
        values.extend(operation.outputs)
        for inner in operation.blocks:
            values.extend(inner.inputs)
    return {value.name: value.type for value in values}


def _work(operation: MIL_pb2.Operation, types: dict[str, MIL_pb2.ValueType]) -> float | None:
    if operation.type == "const":
        return None
    inputs = {
        name: [types[part.name] if part.HasField("name") else part.value.type for part in argument.arguments]
        for name, argument in operation.inputs.items()
    }
    outputs = [output.type for output in operation.outputs]
    if operation.blocks:
        # What its blocks cost is theirs.
        return float(sum(map(_bytes, outputs)))
    moved = sum(_bytes(value) for values in [*inputs.values(), outputs] for value in values)
    shapes = {name: [_shape(value) for value in values] for name, values in inputs.items() if values}
    result = _shape(outputs[0]) if outputs else (0,)
    return max(moved, _flops(operation.type, shapes, result) / BALANCE, 1.0)


def _flops(operator: str, shapes: dict[str, list[Shape]], result: Shape) -> float:
    """The floating-point operations of an operator; for most, one for each element."""
    count = FLOPS.get(operator)
    if count is not None:
        return count(shapes, result)
    sizes = [math.prod(shape) for parts in shapes.values() for shape in parts]
    return float(max([math.prod(result), *sizes]))


def _conv(shapes: dict[str, list[Shape]], result: Shape) -> float:
    (weight,) = shapes["weight"]
    return 2.0 * math.prod(result) * math.prod(weight[1:])


def _conv_transpose(shapes: dict[str, list[Shape]], result: Shape) -> float:
    (x,), (weight,) = shapes["x"], shapes["weight"]
    return 2.0 * math.prod(x) * math.prod(weight[1:])


def _linear(shapes: dict[str, list[Shape]], result: Shape) -> float:
    (x,) = shapes["x"]
    return 2.0 * math.prod(result) * x[-1]


def _matmul(shapes: dict[str, list[Shape]], result: Shape) -> float:
    """Either dimension of `x` may be the inner one: the other is the result's."""
    (x,) = shapes["x"]
    inner = x[-1] if len(x) < 2 or len(result) < 2 else x[-1] * x[-2] / max(result[-2], 1)
    return 2.0 * math.prod(result) * inner


def _einsum(shapes: dict[str, list[Shape]], result: Shape) -> float:
    """As a product of two matrices, whose sizes multiplied are the square of what is computed."""
    return 2.0 * math.sqrt(math.prod(math.prod(shape) for shape in shapes["values"]) * math.prod(result))


def _recurrent(shapes: dict[str, list[Shape]], result: Shape) -> float:
    """Each step, of each sample, meets all weights."""
    (x,) = shapes["x"]
    weights = [shape for name, parts in shapes.items() if name.startswith("weight") for shape in parts]
    return 2.0 * math.prod(x[:2]) * sum(map(math.prod, weights))


def _attention(shapes: dict[str, list[Shape]], result: Shape) -> float:
    (query,), (value,) = shapes["query"], shapes["value"]
    return 2.0 * (math.prod(query) * value[-2] + math.prod(value) * query[-2])


FLOPS: dict[str, Callable[[dict[str, list[Shape]], Shape], float]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    "gru": _recurrent,
    "linear": _linear,
    "lstm": _recurrent,
    "matmul": _matmul,
    "rnn": _recurrent,
    "scaled_dot_product_attention": _attention,
}


def _shape(value: MIL_pb2.ValueType) -> Shape:
    if value.WhichOneof("type") == "stateType":
        return _shape(value.stateType.wrappedType)
    dimensions = value.tensorType.dimensions
    return tuple(part.constant.size if part.HasField("constant") else 1 for part in dimensions)


def _bytes(value: MIL_pb2.ValueType) -> float:
    """The bytes of a tensor or a state; none for lists, tuples and dictionaries."""
    from coremltools.proto.MIL_pb2 import DataType

    if value.WhichOneof("type") == "stateType":
        return _bytes(value.stateType.wrappedType)
    if value.WhichOneof("type") != "tensorType":
        return 0
    digits = re.search(r"\d+", DataType.Name(value.tensorType.dataType))
    bits = int(digits.group()) if digits else 8
    return math.prod(_shape(value)) * bits / 8
