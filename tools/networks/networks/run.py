"""Converts one network in every setting of the table, and holds it against PyTorch."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from . import convert, engine, reference, weights
from .catalogue import settings
from .network import Plain
from .recipes import RECIPES

TOLERANCE = {"fp32": 2e-6, "fp16": 2e-3}
#: PyTorch's own error in float32 up to which a network has to keep the tolerance.
WELL_CONDITIONED = 1e-6
SEED = 20
THREADS = 2

# Its fused attention is an operation that coremltools does not convert.
torch.backends.mha.set_fastpath_enabled(False)


class Converted:
    """A network of PyTorch with its inputs, converted when it is asked for."""

    def __init__(self, network):
        self.network = network
        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        module = network.build().eval()
        weights.randomize(module)
        self.plain = Plain(module, network.call).eval().requires_grad_(False)
        weights.calibrate(self.plain, network.inputs)
        self.inputs = [value.sample(seed=i) for i, value in enumerate(network.inputs)]
        self.exact = reference.results(reference.in_double(self.plain), self.inputs)
        self.own_error = error(self.exact, self.singles())
        self.program = None

    def singles(self):
        return reference.results(self.plain, self.inputs, torch.float32)

    def model(self, opset, precision, recipe):
        """The model, and what it has to give."""
        if self.program is None:
            self.program = convert.traced(self.network, self.plain)
        model = convert.convert(self.network, self.program, len(self.exact), opset, precision)
        if recipe is not None:
            model = RECIPES[recipe][1](model)
        twin = reference.as_converted(self.plain, self.inputs, model, precision)
        return model, reference.results(twin, self.inputs)

    def arrays(self):
        return {
            value.name: x.numpy() if x.is_floating_point() else x.numpy().astype(np.int32)
            for value, x in zip(self.network.inputs, self.inputs)
        }

    @torch.inference_mode()
    def seconds(self, repeat):
        """The fastest of several runs of PyTorch on two threads."""
        torch.set_num_threads(THREADS)
        fastest = min(timed(lambda: self.plain(*self.inputs)) for _ in range(repeat))
        torch.set_num_threads(1)
        return fastest


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def error(expected, got):
    """The largest difference, relative to the largest value; of all results, the worst."""
    worst = 0.0
    for y, x in zip(expected, got, strict=True):
        if y.shape != x.shape:
            raise ValueError(f"the shape is {list(x.shape)} instead of {list(y.shape)}")
        difference = np.abs(x.astype(np.float64) - y).max(initial=0.0)
        worst = max(worst, difference / np.abs(y).max(initial=1e-30))
    return float(worst) if np.isfinite(worst) else float("inf")


def rows(network, folder, turns, reuse=False, recipes=None):
    """A row of the table for each setting; conversions stay in `folder`, and are taken from there with `reuse`.

    Of recipes so many are taken, evenly from all of them; `None` for all.
    """
    converted, plain = None, 0
    for opset, precision, recipe in some(settings(network.name), recipes):
        row = {"network": network.name, "opset": opset, "precision": precision, "recipe": recipe}
        if recipe and not plain:
            break
        title = " ".join(filter(None, (opset, precision, recipe))).replace(" ", "_").replace(",", "")
        place = Path(folder) / network.name / title
        try:
            converted = converted or Converted(network)
            row["own_error"] = converted.own_error
            write(converted, place, (opset, precision, recipe), reuse)
            plain += recipe is None
        except Exception as e:
            yield row | {"unconverted": f"{type(e).__name__}: {str(e).strip()}"}
            continue
        yield row | compare(converted, place, turns)


def some(settings, recipes):
    plain = [setting for setting in settings if setting[2] is None]
    compressed = [setting for setting in settings if setting[2] is not None]
    return plain + compressed[:: max(1, len(compressed) // recipes) if recipes else 1]


def write(converted, place, setting, reuse):
    if reuse and (place / "expected.npz").exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    model, expected = converted.model(*setting)
    for y in expected:
        sane(y)
    model.save(str(place / "model.mlpackage"))
    np.savez(place / "expected.npz", *expected)


def sane(y):
    """Weights that make all results alike, or no numbers, would show no error."""
    if not np.isfinite(y).all():
        raise ValueError("the network gives infinities or NaN")
    if y.size > 1 and y.std() < 1e-3 * np.abs(y).max():
        raise ValueError("all results of the network are alike")


def compare(converted, place, turns):
    with np.load(place / "expected.npz") as file:
        expected = list(file.values())
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for _ in range(max(turns, 1)):
                got, seconds = engine.predict(
                    place / "model.mlpackage", converted.arrays(), scratch, THREADS, 3 if turns else 1
                )
                ours.append(seconds)
                if turns:
                    theirs.append(converted.seconds(repeat=4))
        except engine.Refused as e:
            return {"refused": str(e)}
    row = {"error": error(expected, [got[f"y{i}"] for i in range(len(expected))])}
    return row | ({"ours": min(ours), "theirs": min(theirs)} if turns else {})


def verdict(row):
    """Why a row is not as it should be; nothing if it is."""
    if "unconverted" in row:
        return f"not converted: {row['unconverted'][:300]}"
    if "refused" in row:
        return f"refused: {row['refused'][:400]}"
    # Rounding adds up, and grows, over a hundred layers, in PyTorch as here.
    limit = TOLERANCE[row["precision"]] * max(1, row["own_error"] / WELL_CONDITIONED)
    return f"differs by {row['error']:.2g}" if not row["error"] <= limit else None


def results_file(folder):
    return Path(folder) / "results.json"


def read_results(folder):
    path = results_file(folder)
    return json.loads(path.read_text()) if path.exists() else []


def keep_results(folder, network, rows):
    """Replaces what is known of one network."""
    kept = [row for row in read_results(folder) if row["network"] != network]
    results_file(folder).write_text(json.dumps(kept + rows, indent=1) + "\n")
