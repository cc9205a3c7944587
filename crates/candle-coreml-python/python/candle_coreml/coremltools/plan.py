"""Compute plans: which device runs each operation, and what it costs. The CPU runs them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from coremltools.models import compute_device
from coremltools.models.compute_plan import (
    MLComputePlan,
    MLComputePlanCost,
    MLComputePlanDeviceUsage,
    MLModelStructure,
    MLModelStructureNeuralNetworkLayer,
    MLModelStructureProgramBlock,
    MLModelStructureProgramOperation,
    _MLComputePlanProxy,
)

from .cost import costs
from .structure import structure_of

if TYPE_CHECKING:
    from coremltools.proto.Model_pb2 import Model


def cpu() -> compute_device.MLCPUComputeDevice:
    """The CPU."""
    return compute_device.MLCPUComputeDevice(compute_device._MLCPUComputeDeviceProxy())


def compute_plan(model: Model) -> MLComputePlan:
    """The plan of a model, from its message."""
    return MLComputePlan(ComputePlan(model))


class ComputePlan(_MLComputePlanProxy):  # type: ignore[misc]
    """The structure of a model, and what its operations cost (`cost`)."""

    def __init__(self, model: Model) -> None:
        self.model_structure: MLModelStructure = structure_of(model)
        # By identity: operations of coremltools' structures can't be keys.
        self._costs: dict[int, float] = {}
        program = self.model_structure.program
        for name, function in program.functions.items() if program else ():
            estimates = costs(model.mlProgram.functions[name])
            for operation, cost in zip(_operations(function.block), estimates, strict=True):
                if cost is not None:
                    self._costs[id(operation)] = cost

    def get_compute_device_usage_for_mlprogram_operation(
        self, operation: MLModelStructureProgramOperation
    ) -> MLComputePlanDeviceUsage | None:
        """The CPU; None for constants, which nothing runs."""
        return _on_cpu() if id(operation) in self._costs else None

    def get_compute_device_usage_for_neuralnetwork_layer(
        self, layer: MLModelStructureNeuralNetworkLayer
    ) -> MLComputePlanDeviceUsage | None:
        """The CPU."""
        return _on_cpu()

    def get_estimated_cost_for_mlprogram_operation(
        self, operation: MLModelStructureProgramOperation
    ) -> MLComputePlanCost | None:
        """The operation's share of its function's work; None for constants."""
        cost = self._costs.get(id(operation))
        return None if cost is None else MLComputePlanCost(weight=cost)


def _on_cpu() -> MLComputePlanDeviceUsage:
    device = cpu()
    return MLComputePlanDeviceUsage(preferred_compute_device=device, supported_compute_devices=[device])


def _operations(block: MLModelStructureProgramBlock) -> Iterator[MLModelStructureProgramOperation]:
    """The operations of a block in the order of `cost.operations`."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)
