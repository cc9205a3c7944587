"""Runs models on candle-coreml's program."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release" / "candle-coreml"


class Refused(Exception):
    """What the program said when it failed."""


def predict(model, inputs, outputs, threads, repeat):
    """Results by name, from arrays by name, and the seconds that the fastest of `repeat` runs took.

    `outputs` is a folder for the results.
    """
    command = [PROGRAM, "predict", model, "--output-dir", outputs, "--json", "--threads", str(threads)]
    command += ["--repeat", str(repeat), "--max-time", "600"]
    for name, value in inputs.items():
        path = Path(outputs) / f"in_{name}.npy"
        np.save(path, value)
        command += ["--input", f"{name}={path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stderr.strip() or f"exit status {done.returncode}")
    report = json.loads(done.stdout)
    results = {output["name"]: np.load(output["file"]) for output in report["outputs"]}
    return results, report["timings"]["fastest_seconds"]
