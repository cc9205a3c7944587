"""What coremltools finds in the place of its native module `libcoremlpython`.

It takes the names below from there, derives from some classes, and tells devices and plans by them.
"""

from __future__ import annotations

from .engine import Asset as _MLModelAssetProxy
from .engine import Engine as _MLModelProxy

__all__ = [
    "_MLCPUComputeDeviceProxy",
    "_MLComputePlanProxy",
    "_MLGPUComputeDeviceProxy",
    "_MLModelAssetProxy",
    "_MLModelProxy",
    "_MLModelStructureNeuralNetworkLayerProxy",
    "_MLModelStructureProgramOperationProxy",
    "_MLNeuralEngineComputeDeviceProxy",
]


class _MLCPUComputeDeviceProxy:
    """The CPU, the one device there is."""


class _MLGPUComputeDeviceProxy:
    """A GPU: there is none."""


class _MLNeuralEngineComputeDeviceProxy:
    """A Neural Engine: there is none."""


class _MLComputePlanProxy:
    """What compute plans derive from."""


class _MLModelStructureProgramOperationProxy:
    """What is Apple's behind an operation: nothing here."""


class _MLModelStructureNeuralNetworkLayerProxy:
    """What is Apple's behind a layer: nothing here."""
