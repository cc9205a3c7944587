"""Compiled models, models in memory, structures and plans."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.models.compute_device import MLComputeDevice, MLCPUComputeDevice
from coremltools.models.compute_plan import MLComputePlan, MLModelStructure

from ct_models import WEIGHT, convert

pytest_plugins = "ct_fixtures"

X = np.random.default_rng(4).standard_normal((4, 20), np.float32)
Y = np.maximum(X @ WEIGHT.T, 0)


def test_a_compiled_model_can_be_copied(linear_model: Any, tmp_path: Path) -> None:
    path = linear_model.get_compiled_model_path()
    assert path.endswith(".mlmodelc")
    assert "tensor<fp32, [30, 20]>(BLOBFILE" in Path(path, "model.mil").read_text()
    copy = shutil.copytree(path, tmp_path / "copy.mlmodelc")
    del linear_model
    model = ct.models.CompiledMLModel(str(copy))
    np.testing.assert_allclose(model.predict({"x": X})["y"], Y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict([{"x": X}])[0]["y"], Y, rtol=1e-5, atol=1e-5)


def test_a_compiled_model_goes_with_its_model(linear_model: Any) -> None:
    path = Path(linear_model.get_compiled_model_path())
    assert path.is_dir()
    linear_model.__proxy__ = None
    assert not path.exists()


def test_compile_model(linear_model: Any, tmp_path: Path) -> None:
    linear_model.save(str(tmp_path / "linear.mlpackage"))
    destination = str(tmp_path / "moved.mlmodelc")
    assert ct.models.utils.compile_model(str(tmp_path / "linear.mlpackage"), destination) == destination
    model = ct.models.CompiledMLModel(destination)
    np.testing.assert_allclose(model.predict({"x": X})["y"], Y, rtol=1e-5, atol=1e-5)


def test_a_compiled_model_with_states(counter_model: Any) -> None:
    model = ct.models.CompiledMLModel(counter_model.get_compiled_model_path())
    state = model.make_state()
    model.predict({"x": np.ones(3, np.float32)}, state)
    assert model.predict({"x": np.ones(3, np.float32)}, state)["y"].tolist() == [2, 2, 2]


def test_a_neural_network_is_compiled_and_described() -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(4, 20))])
    def program(x: Any) -> Any:
        return mb.relu(x=mb.linear(x=x, weight=WEIGHT), name="y")

    with pytest.warns(RuntimeWarning, match="You will not be able to run predict.*neural network"):
        network = ct.convert(program, convert_to="neuralnetwork")
    with pytest.raises(RuntimeError, match="neural network"):
        network.predict({"x": X})
    with pytest.raises(RuntimeError, match="neural network"):
        network.make_state()

    structure = MLModelStructure.load_from_path(network.get_compiled_model_path())
    assert structure.program is None
    layers = structure.neuralnetwork.layers
    specified = network.get_spec().neuralNetwork.layers
    assert [layer.name for layer in layers] == [layer.name for layer in specified]
    assert [layer.output_names for layer in layers] == [list(layer.output) for layer in specified]
    plan = MLComputePlan.load_from_path(network.get_compiled_model_path())
    usage = plan.get_compute_device_usage_for_neuralnetwork_layer(layers[0])
    assert isinstance(usage.preferred_compute_device, MLCPUComputeDevice)


def test_a_pipeline_is_compiled_and_described(linear_model: Any, tmp_path: Path) -> None:
    ct.models.utils.bisect_model(linear_model, str(tmp_path), merge_chunks_to_pipeline=True)
    pipeline = ct.models.MLModel(str(tmp_path / "chunked_pipeline.mlpackage"))
    compiled = ct.models.CompiledMLModel(pipeline.get_compiled_model_path())
    np.testing.assert_allclose(compiled.predict({"x": X})["y"], Y, rtol=1e-5, atol=1e-5)
    structure = MLModelStructure.load_from_path(pipeline.get_compiled_model_path())
    assert [name for name, _ in structure.pipeline.sub_models] == ["model0", "model1"]
    operators = [
        {operation.operator_name for operation in model.program.functions["main"].block.operations}
        for _, model in structure.pipeline.sub_models
    ]
    assert "linear" in operators[0] | operators[1]


@pytest.mark.parametrize("prefix", ["", "@model_path/"])
def test_a_model_in_memory(linear_model: Any, prefix: str) -> None:
    weights = Path(linear_model.weights_dir, "weight.bin").read_bytes()
    asset = ct.models.model.MLModelAsset.from_memory(
        linear_model.get_spec().SerializeToString(), {f"{prefix}weights/weight.bin": weights}
    )
    model = ct.models.CompiledMLModel.from_asset(asset)
    np.testing.assert_allclose(model.predict({"x": X})["y"], Y, rtol=1e-5, atol=1e-5)


def test_a_model_in_memory_without_its_weights(linear_model: Any) -> None:
    asset = ct.models.model.MLModelAsset.from_memory(linear_model.get_spec().SerializeToString())
    with pytest.raises(RuntimeError, match=r"weight\.bin"):
        ct.models.CompiledMLModel.from_asset(asset)


def test_an_asset_of_a_compiled_model(linear_model: Any) -> None:
    asset = ct.models.model.MLModelAsset.from_path(linear_model.get_compiled_model_path())
    model = ct.models.CompiledMLModel.from_asset(asset)
    np.testing.assert_allclose(model.predict({"x": X})["y"], Y, rtol=1e-5, atol=1e-5)


def test_the_devices() -> None:
    (device,) = MLComputeDevice.get_all_compute_devices()
    assert isinstance(device, MLCPUComputeDevice)
    (device,) = ct.models.MLModel.get_available_compute_devices()
    assert isinstance(device, MLCPUComputeDevice)


@pytest.fixture
def network() -> Any:
    """A convolution of 2 × 4 × 9 operations for each of 8 × 64 × 64 results, beside one addition for each."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4, 66, 66)), mb.TensorSpec(shape=(1,))])
    def program(x: Any, bias: Any) -> Any:
        weight = np.ones((8, 4, 3, 3), np.float32)
        return mb.add(x=mb.conv(x=x, weight=weight, name="conv"), y=bias, name="sum")

    return convert(program)


def test_the_structure_of_a_program(network: Any) -> None:
    structure = MLModelStructure.load_from_path(network.get_compiled_model_path())
    assert structure.neuralnetwork is None
    assert structure.pipeline is None
    (function,) = structure.program.functions.values()
    assert [value.name for value in function.inputs] == ["x", "bias"]
    operations = [part for part in function.block.operations if part.operator_name != "const"]
    assert [operation.operator_name for operation in operations] == ["conv", "add"]
    assert [operation.outputs[0].name for operation in operations] == ["conv", "sum"]
    assert [binding.name for binding in operations[1].inputs["x"].bindings] == ["conv"]
    assert function.block.output_names == ["sum"]


def test_the_costs_of_operations(network: Any) -> None:
    plan = MLComputePlan.load_from_path(network.get_compiled_model_path())
    operations = plan.model_structure.program.functions["main"].block.operations
    costs = {}
    for operation in operations:
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if operation.operator_name == "const":
            assert (cost, usage) == (None, None)
        else:
            assert isinstance(usage.preferred_compute_device, MLCPUComputeDevice)
            costs[operation.operator_name] = cost.weight
    # By the rule of `cost`: eight operations for a byte.
    convolution = 2 * 4 * 3 * 3 * 8 * 64 * 64 / 8
    addition = 4 * (8 * 64 * 64 * 2 + 1)
    assert costs["conv"] == pytest.approx(convolution / (convolution + addition))
    assert costs["add"] == pytest.approx(addition / (convolution + addition))


@pytest.mark.parametrize("transpose", [False, True])
def test_the_cost_of_a_product_of_matrices(transpose: bool) -> None:
    shape = (2, 90, 50) if transpose else (2, 50, 90)

    @mb.program(input_specs=[mb.TensorSpec(shape=shape), mb.TensorSpec(shape=(2, 90, 70))])
    def program(x: Any, y: Any) -> Any:
        return mb.relu(x=mb.matmul(x=x, y=y, transpose_x=transpose))

    model = convert(program)
    plan = MLComputePlan.load_from_path(model.get_compiled_model_path())
    costs = [
        plan.get_estimated_cost_for_mlprogram_operation(operation).weight
        for operation in plan.model_structure.program.functions["main"].block.operations
        if operation.operator_name in ("matmul", "relu")
    ]
    product = 2 * 2 * 50 * 90 * 70 / 8
    relu = 4 * 2 * (2 * 50 * 70)
    assert costs == pytest.approx([product / (product + relu), relu / (product + relu)])


def test_the_structure_of_branches() -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(1,)), mb.TensorSpec(shape=(3,))])
    def program(which: Any, x: Any) -> Any:
        pred = mb.greater(x=mb.squeeze(x=which), y=np.float32(0))
        return mb.cond(
            pred=pred,
            _true_fn=lambda: mb.add(x=x, y=np.float32(1)),
            _false_fn=lambda: mb.square(x=x),
            name="y",
        )

    model = convert(program)
    x = np.array([2, 3, 4], np.float32)
    assert model.predict({"which": np.array([1.0]), "x": x})["y"].tolist() == [3, 4, 5]
    assert model.predict({"which": np.array([-1.0]), "x": x})["y"].tolist() == [4, 9, 16]
    plan = MLComputePlan.load_from_path(model.get_compiled_model_path())
    operations = plan.model_structure.program.functions["main"].block.operations
    (branches,) = [operation for operation in operations if operation.blocks]
    inner = [[part.operator_name for part in block.operations] for block in branches.blocks]
    assert [[name for name in names if name != "const"] for names in inner] == [["add"], ["square"]]
    nested = [*branches.blocks[0].operations, *branches.blocks[1].operations]
    costs = [
        plan.get_estimated_cost_for_mlprogram_operation(operation) for operation in [*operations, *nested]
    ]
    assert sum(cost.weight for cost in costs if cost is not None) == pytest.approx(1)
