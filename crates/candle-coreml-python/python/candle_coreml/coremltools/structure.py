"""The structure of a model as coremltools tells it: functions, blocks and operations of a program, layers of
a neural network, models of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coremltools.models.compute_plan import (
    MLModelStructure,
    MLModelStructureNeuralNetwork,
    MLModelStructureNeuralNetworkLayer,
    MLModelStructurePipeline,
    MLModelStructureProgram,
    MLModelStructureProgramArgument,
    MLModelStructureProgramBinding,
    MLModelStructureProgramBlock,
    MLModelStructureProgramFunction,
    MLModelStructureProgramNamedValueType,
    MLModelStructureProgramOperation,
    MLModelStructureProgramValue,
    MLModelStructureProgramValueType,
)

if TYPE_CHECKING:
    from coremltools.proto import MIL_pb2, Model_pb2

NEURAL_NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
# Core ML has one kind of layer for these.
ELEMENTWISE = {"add", "average", "max", "min", "multiply"}


def structure_of(model: Model_pb2.Model) -> MLModelStructure:
    """The structure of a model; of one that is neither program, network nor pipeline, an empty one."""
    kind = model.WhichOneof("Type")
    program = network = pipeline = None
    if kind == "mlProgram":
        program = _program(model.mlProgram)
    elif kind in NEURAL_NETWORKS:
        network = MLModelStructureNeuralNetwork([_layer(layer) for layer in getattr(model, kind).layers])
    elif kind == "pipeline":
        pipeline = _pipeline(model.pipeline)
    elif kind in ("pipelineClassifier", "pipelineRegressor"):
        pipeline = _pipeline(getattr(model, kind).pipeline)
    return MLModelStructure(neuralnetwork=network, program=program, pipeline=pipeline)


def active_block(function: MIL_pb2.Function) -> MIL_pb2.Block:
    """The block of a function that is run: the one for its opset."""
    return function.block_specializations[function.opset]


def _pipeline(pipeline: Model_pb2.Pipeline) -> MLModelStructurePipeline:
    names = dict(enumerate(pipeline.names))
    return MLModelStructurePipeline(
        [
            (names.get(place) or f"model{place}", structure_of(model))
            for place, model in enumerate(pipeline.models)
        ]
    )


def _layer(layer: Any) -> MLModelStructureNeuralNetworkLayer:
    kind = layer.WhichOneof("layer")
    return MLModelStructureNeuralNetworkLayer(
        name=layer.name,
        type="elementwise" if kind in ELEMENTWISE else kind,
        input_names=list(layer.input),
        output_names=list(layer.output),
        __proxy__=None,
    )


def _program(program: MIL_pb2.Program) -> MLModelStructureProgram:
    return MLModelStructureProgram({name: _function(value) for name, value in program.functions.items()})


def _function(function: MIL_pb2.Function) -> MLModelStructureProgramFunction:
    return MLModelStructureProgramFunction(
        inputs=_named_types(function.inputs), block=_block(active_block(function))
    )


def _block(block: MIL_pb2.Block) -> MLModelStructureProgramBlock:
    return MLModelStructureProgramBlock(
        inputs=_named_types(block.inputs),
        operations=[_operation(operation) for operation in block.operations],
        output_names=list(block.outputs),
    )


def _operation(operation: MIL_pb2.Operation) -> MLModelStructureProgramOperation:
    return MLModelStructureProgramOperation(
        inputs={name: _argument(argument) for name, argument in operation.inputs.items()},
        operator_name=operation.type,
        outputs=_named_types(operation.outputs),
        blocks=[_block(block) for block in operation.blocks],
        __proxy__=None,
    )


def _argument(argument: MIL_pb2.Argument) -> MLModelStructureProgramArgument:
    return MLModelStructureProgramArgument([_binding(binding) for binding in argument.arguments])


def _binding(binding: MIL_pb2.Argument.Binding) -> MLModelStructureProgramBinding:
    if binding.WhichOneof("binding") == "name":
        return MLModelStructureProgramBinding(name=binding.name, value=None)
    return MLModelStructureProgramBinding(name=None, value=MLModelStructureProgramValue())


def _named_types(values: Any) -> list[MLModelStructureProgramNamedValueType]:
    return [
        MLModelStructureProgramNamedValueType(name=value.name, type=MLModelStructureProgramValueType())
        for value in values
    ]
