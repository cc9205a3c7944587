"""Shares equal small constants within a function of a written package.

The MIL builder gives every operation constants of its own (strides, axes, masks...), which makes up
most of a specification. Equal ones become a single constant, the one that comes first.
"""

from pathlib import Path

from coremltools.proto import Model_pb2


def share_constants(package: Path):
    """Rewrites the package's specification in place."""
    path = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = Model_pb2.Model.FromString(path.read_bytes())
    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            _share_in_block(block)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _share_in_block(block):
    first: dict[bytes, str] = {}
    names: dict[str, str] = {}
    kept = []
    for operation in block.operations:
        value = operation.attributes["val"] if operation.type == "const" else None
        if value is None or value.WhichOneof("value") != "immediateValue":
            _rename_arguments(operation, names)
            kept.append(operation)
            continue
        output = operation.outputs[0].name
        names[output] = first.setdefault(value.SerializeToString(deterministic=True), output)
        if names[output] == output:
            kept.append(operation)
    slim = type(block)(inputs=block.inputs, outputs=block.outputs, operations=kept)
    block.CopyFrom(slim)


def _rename_arguments(operation, names: dict[str, str]):
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.name in names:
                binding.name = names[binding.name]
