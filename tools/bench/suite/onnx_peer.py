"""`python -m suite.onnx_peer PEER FILE.onnx`: how long predictions of an ONNX file take."""

import argparse
import json
import os
import statistics
import time

import numpy as np

WARM_UP = 3


def onnxruntime(file, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = {i.name: sample(i.shape, "int64" in i.type) for i in session.get_inputs()}
    return lambda: session.run(None, inputs)


def openvino(file, threads):
    import openvino as ov

    core = ov.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(file, "CPU", hints)
    inputs = {i.any_name: sample(i.shape, i.element_type == ov.Type.i64) for i in model.inputs}
    request = model.create_infer_request()
    return lambda: request.infer(inputs)


PEERS = {"onnxruntime": onnxruntime, "openvino": openvino}


def sample(shape, integers):
    shape = tuple(int(size) for size in shape)
    if integers:
        return np.zeros(shape, np.int64)
    return np.random.default_rng(20).uniform(-1, 1, shape).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repeat", type=int, required=True)
    options = parser.parse_args()
    # Threads that spin for work take the time of whatever runs next.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    predict = PEERS[options.peer](options.file, options.threads)
    for _ in range(WARM_UP):
        predict()
    times = [timed(predict) for _ in range(options.repeat)]
    print(json.dumps({"fastest": min(times), "median": statistics.median(times)}))


def timed(work):
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    main()
