"""Compiled models of every kind, packages of models in memory, and the messages of both.

`candle_coreml.compile` compiles ML Programs as Apple's compiler does. Other kinds become directories of
which the library reads the message again: `coremldata.bin` with the number of the kind, the word `spec` and
the whole model, as Apple's compiler writes classic models. Pipelines of ML Programs become directories
`model0`, `model1`, …
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .. import compile as compile_program
from .. import decompile
from ..errors import ModelError, UnsupportedError

if TYPE_CHECKING:
    from coremltools.proto.Model_pb2 import Model

DESCRIPTION = "coremldata.bin"
PROGRAM = "model.mil"
# Before the whole model in the description.
WHOLE = b"spec"
# Where the model lies in a package.
DATA = Path("Data", "com.apple.CoreML")
PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")


def write_package(specification: bytes, blobs: Mapping[str, bytes], destination: Path) -> None:
    """Writes a model in memory as a package.

    Args:
        specification: The model's message.
        blobs: Its weight files by path within the model, `weights/weight.bin`, say.
        destination: The package, which is not there yet.

    Raises:
        ModelError: A path leads out of the package.
    """
    data = destination / DATA
    data.mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(specification)
    for name, content in blobs.items():
        path = PurePosixPath(name.removeprefix("@model_path/"))
        if path.is_absolute() or ".." in path.parts:
            raise ModelError(f"the weight file {name!r} would lie outside of its model", kind="BrokenModel")
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content)
    number = str(uuid.uuid4())
    entry = {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {number: entry},
        "rootModelIdentifier": number,
    }
    (destination / "Manifest.json").write_text(json.dumps(manifest))


def compile_model(source: Path, destination: Path) -> None:
    """Compiles a model of any kind.

    Args:
        source: A `.mlpackage` or `.mlmodel`.
        destination: The `.mlmodelc`, which is not there yet.

    Raises:
        Error: The model can't be read, or is none that can be compiled.
        OSError: The directory can't be written.
    """
    model = specification(source)
    if model.WhichOneof("Type") == "mlProgram":
        compile_program(source, destination)
    else:
        _write_compiled(model, source / DATA / "weights", destination)


def specification(path: Path) -> Model:
    """The message of a `.mlpackage`, `.mlmodel` or `.mlmodelc`; without weights, if it is a compiled program.

    Raises:
        Error: The model can't be read, or only Apple's framework can read it.
    """
    from coremltools.models.utils import load_spec
    from google.protobuf.message import DecodeError

    try:
        return _compiled_specification(path) if (path / DESCRIPTION).exists() else load_spec(str(path))
    except DecodeError as error:
        raise ModelError(f"{path} is damaged: {error}", kind="BrokenModel") from error


def stages_in(compiled: Path) -> list[Path]:
    """The compiled models of a compiled pipeline in their order; none, if it is no such pipeline."""
    stages: list[Path] = []
    while (stage := compiled / f"model{len(stages)}").is_dir():
        stages.append(stage)
    return stages


def _write_compiled(model: Model, weights: Path, destination: Path) -> None:
    kind = model.WhichOneof("Type")
    number = struct.pack("<I", model.DESCRIPTOR.fields_by_name[kind].number)
    destination.mkdir()
    if kind in PIPELINES and _has_program(model):
        description = model.description.SerializeToString()
        head = number + struct.pack("<Q", len(description)) + description
        for place, stage in enumerate(_stages(model)):
            _write_stage(stage, weights, destination / f"model{place}")
    else:
        head = number + WHOLE + model.SerializeToString()
    (destination / DESCRIPTION).write_bytes(head)


def _write_stage(model: Model, weights: Path, destination: Path) -> None:
    """Compiles a model of a pipeline. A program is compiled from a package, which is made of it for that."""
    if model.WhichOneof("Type") != "mlProgram":
        _write_compiled(model, weights, destination)
        return
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "model.mlpackage"
        write_package(model.SerializeToString(), {}, package)
        if weights.is_dir():
            shutil.copytree(weights, package / DATA / "weights")
        compiled = Path(directory) / "model.mlmodelc"
        compile_program(package, compiled)
        shutil.move(compiled, destination)


def _stages(model: Model) -> list[Model]:
    kind = model.WhichOneof("Type")
    pipeline = model.pipeline if kind == "pipeline" else getattr(model, kind).pipeline
    return list(pipeline.models)


def _has_program(model: Model) -> bool:
    kind = model.WhichOneof("Type")
    return kind == "mlProgram" or kind in PIPELINES and any(map(_has_program, _stages(model)))


def _compiled_specification(path: Path) -> Model:
    from coremltools.models.utils import load_spec
    from coremltools.proto.Model_pb2 import Model

    if (path / PROGRAM).exists():
        with tempfile.TemporaryDirectory() as directory:
            package = Path(directory) / "model.mlpackage"
            decompile(path, package)
            return load_spec(str(package))
    model = Model()
    if stages := stages_in(path):
        model.pipeline.models.extend(map(specification, stages))
        model.pipeline.names.extend(stage.name for stage in stages)
        return model
    content = (path / DESCRIPTION).read_bytes()
    # Apple's header before the word is some 80 bytes long.
    start = content.find(WHOLE, 0, 1024)
    if start < 0:
        message = f"{path} is a model whose layers only Apple's framework can read: use its source"
        raise UnsupportedError(message, kind="Unsupported")
    model.ParseFromString(content[start + len(WHOLE) :])
    return model
