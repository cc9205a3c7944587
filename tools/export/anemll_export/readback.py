"""Reads exported packages back: interfaces as plain data, weights as float32.

Parses the specification and the blob file by itself, so that a check through this module does not
lean on the code that wrote them.
"""

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from coremltools.proto import MIL_pb2, Model_pb2

from anemll_export import weights as names
from anemll_export.config import ModelConfig
from anemll_export.errors import ExportError

BLOB_SENTINEL = 0xDEADBEEF
RECORD = struct.Struct("<IIQQ")  # sentinel, data type, bytes, offset of the data
MULTI_ARRAY = Model_pb2.FeatureTypes__pb2.ArrayFeatureType
FLOAT_TYPES = {MIL_pb2.FLOAT16: np.float16, MIL_pb2.FLOAT32: np.float32}
INDEX_BITS = {MIL_pb2.UINT4: 4, MIL_pb2.UINT6: 6, MIL_pb2.UINT8: 8}

Feature = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True)
class FunctionContents:
    """One function: its features as (name, type, shape), and the weights it reads.

    `offsets` tells where each weight's record lies in the blob file.
    """

    inputs: list[Feature]
    outputs: list[Feature]
    states: list[Feature]
    weights: dict[str, np.ndarray]
    offsets: dict[str, int]


def read_package(path: Path) -> dict[str, FunctionContents]:
    """The functions of an `.mlpackage` by name."""
    root = path / "Data" / "com.apple.CoreML"
    try:
        model = Model_pb2.Model.FromString((root / "model.mlmodel").read_bytes())
        blob = (root / "weights" / "weight.bin").read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read package `{path}`: {error}") from error
    described = model.description.functions or [model.description]
    functions = {}
    for description in described:
        name = getattr(description, "name", "main")
        weights, offsets = _weights(model.mlProgram.functions[name], blob)
        functions[name] = FunctionContents(
            [_feature(f) for f in description.input],
            [_feature(f) for f in description.output],
            [_feature(f) for f in description.state],
            weights,
            offsets,
        )
    return functions


def enumerated_shapes(path: Path) -> list[tuple[int, ...]]:
    """The shapes that the first input of a single-function package allows, if it lists any."""
    data = (path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes()
    array = Model_pb2.Model.FromString(data).description.input[0].type.multiArrayType
    return [tuple(shape.shape) for shape in array.enumeratedShapes.shapes]


def checkpoint_weights(directory: Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """All weights of an export under their Hugging Face names, as a checkpoint would keep them.

    The LM head is always there as `lm_head.weight`, its parts joined. All are float32.
    """
    constants = package_constants(directory)
    parts = [name for name in constants if name.startswith("lm_head_")]
    if not parts:
        raise ExportError(f"`{directory}` holds no exported LM head")
    parts.sort(key=lambda name: int(name.split("_")[2]))
    head = np.concatenate([constants[name] for name in parts])
    found = {names.HEAD: head.reshape(config.vocab, config.hidden)}
    for name, shape in names.all_shapes(replace(config, tied=True)).items():
        values = constants[names.constant_name(name)].reshape(shape)
        found[name] = names.as_stored(config, name, values)
    return found


def package_constants(directory: Path) -> dict[str, np.ndarray]:
    """The weights of all packages by the names of their constants."""
    found = {}
    for path in sorted(directory.glob("*.mlpackage")):
        for function in read_package(path).values():
            found |= function.weights
    return found


def _feature(feature) -> Feature:
    kind = feature.type.WhichOneof("Type")
    array = feature.type.stateType.arrayType if kind == "stateType" else feature.type.multiArrayType
    return feature.name, MULTI_ARRAY.ArrayDataType.Name(array.dataType), tuple(array.shape)


def _weights(function, blob: bytes) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    weights, offsets = {}, {}
    block = function.block_specializations[function.opset]
    for operation in block.operations:
        if operation.type == "const" and _is_small_weight(operation):
            weights[operation.outputs[0].name] = _immediate(operation.attributes["val"])
            continue
        if operation.type == "const" and _is_blob(operation.attributes["val"]):
            value = operation.attributes["val"]
            name = operation.outputs[0].name
            weights[name] = _floats(value, blob)
        elif operation.type == "constexpr_lut_to_dense":
            value = operation.inputs["indices"].arguments[0].value
            name = operation.outputs[0].name.removesuffix("_palettized")
            weights[name] = _dense(value, operation.inputs["lut"].arguments[0].value, blob)
        else:
            continue
        offsets[name] = value.blobFileValue.offset
    return weights, offsets


def _is_small_weight(operation) -> bool:
    """Weights of a few values stand in the program itself."""
    value = operation.attributes["val"]
    tensor = value.type.tensorType
    is_vector = tensor.dataType == MIL_pb2.FLOAT16 and tensor.rank > 0
    return operation.outputs[0].name.startswith("model_model_") and is_vector and not _is_blob(value)


def _immediate(value) -> np.ndarray:
    data = value.immediateValue.tensor.bytes.values
    return np.frombuffer(data, np.float16).reshape(_shape(value)).astype(np.float32)


def _is_blob(value) -> bool:
    return value.WhichOneof("value") == "blobFileValue"


def _dense(indices, lut, blob: bytes) -> np.ndarray:
    """Looks every index up in the table of its group of rows."""
    shape, lut_shape = _shape(indices), _shape(lut)
    if any(groups != 1 for groups in lut_shape[1:-2]) or lut_shape[-1] != 1:
        raise ExportError(f"tables of shape {lut_shape} do not group the rows of {shape}")
    tables = _floats(lut, blob).reshape(lut_shape[0], lut_shape[-2])
    bits = INDEX_BITS[indices.type.tensorType.dataType]
    grouped = _unpack(_record(indices, blob), bits, int(np.prod(shape))).reshape(len(tables), -1)
    return np.take_along_axis(tables, grouped, axis=1).reshape(shape)


def _unpack(data: bytes, bits: int, count: int) -> np.ndarray:
    """Numbers of `bits` each from a bit stream whose first number has the lowest bits."""
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits]
    return stream.reshape(count, bits).astype(np.intp) @ (1 << np.arange(bits))


def _floats(value, blob: bytes) -> np.ndarray:
    dtype = FLOAT_TYPES[value.type.tensorType.dataType]
    return np.frombuffer(_record(value, blob), dtype).reshape(_shape(value)).astype(np.float32)


def _shape(value) -> tuple[int, ...]:
    return tuple(d.constant.size for d in value.type.tensorType.dimensions)


def _record(value, blob: bytes) -> bytes:
    offset = value.blobFileValue.offset
    if offset + RECORD.size > len(blob):
        raise ExportError(f"blob record at {offset} lies beyond the file's {len(blob)} bytes")
    sentinel, _, size, begin = RECORD.unpack_from(blob, offset)
    if sentinel != BLOB_SENTINEL or begin + size > len(blob):
        raise ExportError(f"blob record at {offset} is damaged")
    return blob[begin : begin + size]
