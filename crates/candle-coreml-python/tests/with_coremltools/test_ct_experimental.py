"""coremltools' experimental tools for finding faults and measuring."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.models.ml_program.experimental.debugging_utils import MLModelComparator, MLModelValidator
from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

from ct_models import convert

pytest_plugins = "ct_fixtures"


def logarithm(offset: float) -> Any:
    """`log(x + offset)` and what follows."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(3,))])
    def program(x: Any) -> Any:
        sum_ = mb.add(x=x, y=np.float32(offset), name="sum")
        return mb.tanh(x=mb.log(x=sum_, epsilon=0.0, name="log"), name="y")

    return convert(program)


def names(operations: Any) -> list[str]:
    return [operation.outputs[0].name for operation in operations]


def test_the_validator_finds_where_values_become_nan() -> None:
    validator = MLModelValidator(logarithm(0))
    x = np.array([1, -1, 2], np.float32)
    assert names(asyncio.run(validator.find_failing_ops_with_nan_output(inputs={"x": x}))) == ["log"]
    assert asyncio.run(validator.find_failing_ops_with_nan_output(inputs={"x": abs(x)})) == []


def test_the_comparator_finds_where_two_models_part() -> None:
    comparator = MLModelComparator(logarithm(1), logarithm(1.5))

    def close(operation: Any, one: Any, other: Any) -> bool:
        return bool(np.allclose(one, other))

    failing = asyncio.run(
        comparator.find_failing_ops(inputs={"x": np.ones(3, np.float32)}, compare_outputs=close)
    )
    assert "sum" in names(failing)
    same = MLModelComparator(logarithm(1), logarithm(1))
    assert not asyncio.run(same.find_failing_ops(inputs={"x": np.ones(3, np.float32)}, compare_outputs=close))


def test_the_benchmarker_measures_models_and_operations() -> None:
    benchmarker = MLModelBenchmarker(logarithm(1))
    assert len(asyncio.run(benchmarker.benchmark_load(iterations=2)).samples) == 2
    whole = asyncio.run(benchmarker.benchmark_predict(iterations=3, warmup=True))
    assert len(whole.samples) == 3
    assert min(whole.samples) > 0
    parts = asyncio.run(benchmarker.benchmark_operation_execution(iterations=2))
    measured = {part.spec.outputs[0].name for part in parts if part.measurement.statistics}
    assert {"sum", "log", "y"} <= measured
