"""What a call from Python costs: beside the same call in Rust, and beside onnxruntime on the same network.

    python overhead.py [MODEL] [--onnx FILE] [--program candle-coreml] [--threads N] [--rounds N] [--calls N]

Without MODEL, a network of one layer is made for both (needs the packages coremltools and onnx). Silero VAD,
with the ONNX file of the package silero-vad:

    python overhead.py silero-vad.mlpackage --onnx silero_vad/data/silero_vad.onnx \\
        --onnx-shape input=1,576 --onnx-shape state=2,1,128 --onnx-value sr=16000

All compute on the same number of threads, in turns: `--rounds` times, `--calls` calls of each. A round's time
is its fastest call, since that is what `candle-coreml predict --repeat` tells of Rust; printed are the medians
of the rounds, with their range. Use builds with `--release`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import candle_coreml as cm

Inputs = dict[str, np.ndarray[Any, Any]]


def fastest(call: Callable[[], object], calls: int) -> float:
    """Seconds of the fastest of so many calls."""
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def python_call(model: cm.MLModel, inputs: Inputs) -> Callable[[int], float]:
    """Times `MLModel.predict`."""
    return lambda calls: fastest(lambda: model.predict(inputs), calls)


def rust_call(
    program: str, model: Path, inputs: Inputs, threads: int, folder: Path
) -> Callable[[int], float]:
    """Times the same in the program `candle-coreml`."""
    command = [program, "predict", str(model), "--json", "--threads", str(threads), "--max-time", "0"]
    for name, value in inputs.items():
        np.save(folder / f"{name}.npy", value)
        command += ["--input", f"{name}={folder / name}.npy"]

    def run(calls: int) -> float:
        done = subprocess.run([*command, "--repeat", str(calls)], check=True, stdout=subprocess.PIPE)
        return float(json.loads(done.stdout)["timings"]["fastest_seconds"])

    return run


def onnx_call(
    path: Path, shapes: dict[str, str], values: dict[str, str], threads: int
) -> Callable[[int], float]:
    """Times onnxruntime on the CPU. Dimensions that are open are 1 if `shapes` does not say more."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {}
    for given in session.get_inputs():
        dtype = np.int64 if given.type == "tensor(int64)" else np.float32
        if given.name in values:
            inputs[given.name] = np.array(json.loads(values[given.name]), dtype)
        else:
            shape = [size if isinstance(size, int) else 1 for size in given.shape]
            if given.name in shapes:
                shape = [int(size) for size in shapes[given.name].split(",")]
            inputs[given.name] = np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype)
    return lambda calls: fastest(lambda: session.run(None, inputs), calls)


def model_inputs(model: cm.MLModel) -> Inputs:
    """Random numbers for the inputs, in their default shapes."""
    generator = np.random.default_rng(0)
    return {
        feature.name: generator.uniform(-1, 1, feature.shape).astype(feature.dtype)
        for feature in model.inputs
    }


def make_one_layer(folder: Path) -> tuple[Path, Path]:
    """`y = relu(x · wᵀ + b)`, `x` float32 [1, 64], `y` [1, 32], as a Core ML package and as an ONNX file."""
    import coremltools as ct
    import onnx
    from coremltools.converters.mil import Builder as mb

    generator = np.random.default_rng(0)
    w = generator.standard_normal((32, 64)).astype(np.float32)
    b = generator.standard_normal(32).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec((1, 64))], opset_version=ct.target.iOS15)
    def program(x: Any) -> Any:
        return mb.relu(x=mb.linear(x=x, weight=w, bias=b), name="y")

    package = folder / "layer.mlpackage"
    converted = ct.convert(program, compute_precision=ct.precision.FLOAT32, skip_model_load=True)
    converted.save(str(package))

    def described(name: str, size: int) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])

    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gemm", ["x", "w", "b"], ["sum"], transB=1),
            onnx.helper.make_node("Relu", ["sum"], ["y"]),
        ],
        "layer",
        [described("x", 64)],
        [described("y", 32)],
        [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(b, "b")],
    )
    network = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    file = folder / "layer.onnx"
    onnx.save(network, str(file))
    return package, file


def measure(contestants: dict[str, Callable[[int], float]], rounds: int, calls: int) -> None:
    """Lets all run in turns and prints what came out."""
    for run in contestants.values():
        run(max(calls // 10, 1))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(run(calls) * 1e6)
    own = statistics.median(times["candle_coreml"])
    for name, measured in times.items():
        median = statistics.median(measured)
        between = f"{min(measured):.2f} to {max(measured):.2f}"
        print(
            f"{name:20} {median:10.2f} µs  ({between})  candle_coreml takes {own / median:.2f} times as long"
        )


def pairs(given: list[str]) -> dict[str, str]:
    """`NAME=VALUE` arguments by name."""
    return dict(pair.split("=", 1) for pair in given)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a call from Python costs.")
    parser.add_argument("model", nargs="?", type=Path, help="a Core ML model; without it, one layer is made")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="the same network for onnxruntime")
    parser.add_argument("--onnx-shape", action="append", default=[], metavar="NAME=1,2,3")
    parser.add_argument("--onnx-value", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument(
        "--program", default="candle-coreml", help="the command-line program, built with --release"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, onnx = arguments.model, arguments.onnx
        if path is None:
            path, onnx = make_one_layer(folder)
        model = cm.MLModel(path, threads=arguments.threads)
        inputs = model_inputs(model)
        contestants = {"candle_coreml": python_call(model, inputs)}
        if shutil.which(arguments.program):
            contestants["Rust"] = rust_call(arguments.program, path, inputs, arguments.threads, folder)
        else:
            print(f"no Rust: there is no program {arguments.program}; name it with --program")
        if onnx is not None:
            shapes, values = pairs(arguments.onnx_shape), pairs(arguments.onnx_value)
            contestants["onnxruntime"] = onnx_call(onnx, shapes, values, arguments.threads)
        print(
            f"{path.name}, {arguments.threads} threads, {arguments.rounds} rounds of {arguments.calls} calls"
        )
        measure(contestants, arguments.rounds, arguments.calls)


if __name__ == "__main__":
    main()
