"""Shortens the names within a package, which make up half of a very small model's program."""

from pathlib import Path

from coremltools.proto import Model_pb2

DIGITS = "abcdefghijklmnopqrstuvwxyz"
# Weights keep theirs, by which they are found again.
WEIGHTS = ("model_model_", "lm_head_", "rope_")


def shorten_names(package: Path):
    """Rewrites the package's specification in place; inputs, outputs and weights keep their names."""
    path = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = Model_pb2.Model.FromString(path.read_bytes())
    for function in model.mlProgram.functions.values():
        block = function.block_specializations[function.opset]
        kept = {feature.name for feature in function.inputs} | set(block.outputs)
        names = _short_names(block, kept)
        for operation in block.operations:
            _rename(operation, names)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _short_names(block, kept: set[str]) -> dict[str, str]:
    """A short name for every value but those kept."""
    names = {}
    for operation in block.operations:
        for output in operation.outputs:
            is_weight = operation.type.startswith("const") and output.name.startswith(WEIGHTS)
            if output.name not in kept and not is_weight:
                names[output.name] = _numeral(len(names))
    return names


def _numeral(number: int) -> str:
    """`a`, `b`, ... `z`, `ba`, ..., with a sign in front that no other name begins with."""
    text = ""
    while True:
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
        if not number:
            return f"_{text}"


def _rename(operation, names: dict[str, str]):
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.name in names:
                binding.name = names[binding.name]
    for output in operation.outputs:
        output.name = names.get(output.name, output.name)
    # The operation's own name says the same again.
    if "name" in operation.attributes:
        name = operation.outputs[0].name if operation.outputs else ""
        operation.attributes["name"].immediateValue.tensor.strings.values[0] = name
