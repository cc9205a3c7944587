"""A slow NumPy interpreter for the operations of exported models, rounding to fp16 after each.

It knows the meaning of the operations from Core ML's documentation alone and shares no code with the
exporter but the reading of weights, so that it can tell whether an exported graph computes what the
PyTorch model does.
"""

from pathlib import Path

import numpy as np
from anemll_export.readback import read_package
from coremltools.proto import MIL_pb2, Model_pb2

INTEGERS = {"int32": np.int32, "uint16": np.uint16}
HALF = MIL_pb2.FLOAT16


class Package:
    """The functions of one package, ready to run on a shared dictionary of states."""

    def __init__(self, path: Path):
        data = (path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes()
        self._functions = Model_pb2.Model.FromString(data).mlProgram.functions
        contents = read_package(path)
        self._weights = {name: f.weights for name, f in contents.items()}
        self.inputs = {name: dict((i[0], i[2]) for i in f.inputs) for name, f in contents.items()}
        self.states = {name: dict((s[0], s[2]) for s in f.states) for name, f in contents.items()}

    def run(self, name: str, inputs: dict, states: dict | None = None) -> dict[str, np.ndarray]:
        """Outputs of function `name`; `states` is changed in place."""
        function = self._functions[name]
        block = function.block_specializations[function.opset]
        values = dict(inputs)
        for operation in block.operations:
            _step(operation, values, self._weights[name], states)
        return {output: values[output] for output in block.outputs}


def _step(operation, values, weights, states):
    arguments = {key: _argument(value, values) for key, value in operation.inputs.items()}
    kind = operation.type
    if kind == "write_state":
        states[operation.inputs["input"].arguments[0].name] = arguments["data"]
        return
    output = operation.outputs[0]
    if kind == "read_state":
        result = states[operation.inputs["input"].arguments[0].name]
    elif kind == "constexpr_lut_to_dense":
        result = weights[output.name.removesuffix("_palettized")]
    elif kind == "const":
        result = weights[output.name] if output.name in weights else _immediate(operation)
    else:
        result = OPERATIONS[kind](**arguments)
    if output.type.tensorType.dataType == HALF:
        result = np.asarray(result).astype(np.float16).astype(np.float32)
    values[output.name] = result


def _argument(argument, values):
    found = [values.get(b.name) for b in argument.arguments if b.WhichOneof("binding") == "name"]
    return found if len(argument.arguments) > 1 else found[0] if found else None


def _immediate(operation):
    value = operation.attributes["val"]
    tensor = value.immediateValue.tensor
    shape = tuple(d.constant.size for d in value.type.tensorType.dimensions)
    kind = tensor.WhichOneof("value")
    if kind == "bytes":
        return np.frombuffer(tensor.bytes.values, np.float16).astype(np.float32).reshape(shape)
    if kind == "strings":
        return tensor.strings.values[0]
    return np.array(getattr(tensor, kind).values).reshape(shape)


def _conv(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    assert pad_type == "valid" and groups == 1 and set(strides) == set(dilations) == {1}
    kernel = weight.reshape(weight.shape[:2])
    result = np.einsum("nc,bc...->bn...", kernel, x)
    return result if bias is None else result + bias.reshape(-1, *[1] * (result.ndim - 2))


def _slice_by_index(x, begin, end, end_mask=(False,) * 5):
    return x[_region(x.shape, begin, end, end_mask)]


def _slice_update(x, update, begin, end, end_mask, begin_mask, stride, squeeze_mask):
    assert not begin_mask.any() and not squeeze_mask.any() and (stride == 1).all()
    result = x.copy()
    result[_region(x.shape, begin, end, end_mask)] = update
    return result


def _region(shape, begin, end, end_mask):
    axes = zip(shape, begin, end, end_mask)
    return tuple(slice(int(b), size if whole else int(e)) for size, b, e, whole in axes)


def _layer_norm(x, axes, epsilon):
    axes = tuple(axes)
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=axes, keepdims=True) + epsilon)


def _softmax(x, axis):
    powers = np.exp(x - x.max(axis=int(axis), keepdims=True))
    return powers / powers.sum(axis=int(axis), keepdims=True)


def _matmul(x, y, transpose_x, transpose_y):
    assert not transpose_x
    return x @ (y.swapaxes(-1, -2) if transpose_y else y)


def _gather(x, indices, axis, batch_dims, validate_indices):
    assert batch_dims == 0 and not validate_indices
    return np.take(x, indices.astype(np.intp), axis=int(axis))


def _gather_along_axis(x, indices, axis, validate_indices):
    assert not validate_indices
    return np.take_along_axis(x, indices, axis=int(axis))


def _gelu(x, mode):
    assert mode == "TANH_APPROXIMATION"
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _reduce_sum(x, axes, keep_dims):
    return x.sum(axis=tuple(axes), keepdims=bool(keep_dims))


def _concat(values, axis, interleave):
    assert not interleave
    return np.concatenate([np.atleast_1d(value) for value in values], axis=int(axis))


OPERATIONS = {
    "add": lambda x, y: x + y,
    "cast": lambda x, dtype: x.astype(INTEGERS[dtype]),
    "concat": _concat,
    "conv": _conv,
    "exp": lambda x: np.exp(x),
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(axes)),
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gelu": _gelu,
    "identity": lambda x: x,
    "layer_norm": _layer_norm,
    "less_equal": lambda x, y: x <= y,
    "log": lambda x, epsilon: np.log(x),
    "matmul": _matmul,
    "mul": lambda x, y: x * y,
    "range_1d": lambda start, end, step: np.arange(start, end, step),
    "reduce_argmax": lambda x, axis, keep_dims, **_: np.expand_dims(x.argmax(axis=int(axis)), int(axis)),
    "reduce_sum": _reduce_sum,
    "reshape": lambda x, shape: x.reshape(shape),
    "rsqrt": lambda x, epsilon: 1 / np.sqrt(x + epsilon),
    "select": lambda cond, a, b: np.where(cond, a, b),
    "shape": lambda x: np.array(x.shape, np.int32),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    "softmax": _softmax,
    "sub": lambda x, y: x - y,
    "squeeze": lambda x, axes: np.squeeze(x, tuple(axes)),
    "tile": lambda x, reps: np.tile(x, reps),
    "transpose": lambda x, perm: x.transpose(perm),
}
