"""docs/networks.md: all results as a table."""

import platform
from importlib.metadata import version
from pathlib import Path

from .catalogue import LEFT_OUT, NETWORKS
from .engine import ROOT
from .run import TOLERANCE, verdict

PACKAGES = ("coremltools", "torch", "torchvision", "transformers", "timm")

TEXT = """# Networks

{networks} networks of torchvision, transformers, timm and the field at large, converted with coremltools in {count}
ways and run here, held against PyTorch. `tools/networks` makes this file of the networks that it was told to run
(its catalogue has {known}):

```sh
cargo build --release -p candle-coreml-cli
cd tools/networks && python -m networks --turns 3 NAME … && python -m networks --table
```

Weights are random (a fixed seed), configurations often smaller than published ones, architectures whole. The
reference is PyTorch in float64 with the weights that the model has: as they are for fp32, rounded to float16 for
fp16 after batch norms are folded into them, decompressed for compressed models. *Error* is the largest difference
relative to the largest value of a result; it has to stay under {fp32} for fp32 and {fp16} for fp16. *PyTorch's own*
is that of PyTorch in float32, with the weights of float32; where rounding grows over so many layers that it is above
1e-6, the limits are larger by as many times.

Two things that coremltools 9.0 does are in the reference, too. Scale and shift of a group norm become a `batch_norm`
whose variance is 1 and whose epsilon stays at 1e-5, which makes results smaller by 5e-6. And `palettize_weights` with
scales for channels leaves weights divided by these scales where its groups don't divide the channels: such a model
computes something else than the original.

Times are milliseconds of one prediction on two threads: of `candle-coreml predict --threads 2 --repeat 3`, and of
PyTorch eager in float32 with `torch.set_num_threads(2)`; in three turns, the fastest of each. Other work ran on the
machine beside some of them; where none stands, only errors were measured. Machine: {machine};
{versions}.

| network | opset | weights and precision | error | PyTorch's own | ms | PyTorch, ms | ratio |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}
"""

OTHERS = """
## Left out

coremltools {version} does not convert these, with PyTorch {torch}:

{rows}
"""

WRONG = """
## Not as they should be

{rows}
"""


def write(rows):
    """Writes the file from all results, in the catalogue's order."""
    order = {name: place for place, name in enumerate(NETWORKS)}
    rows = sorted((row for row in rows if row["network"] in order), key=lambda row: order[row["network"]])
    text = TEXT.format(
        networks=len({row["network"] for row in rows}),
        count=len(rows),
        known=len(NETWORKS),
        machine=machine(),
        versions=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        rows="\n".join(line(row) for row in rows if "error" in row),
        **TOLERANCE,
    )
    if wrong := [item(row, verdict(row)) for row in rows if verdict(row)]:
        text += WRONG.format(rows="\n".join(wrong))
    text += OTHERS.format(
        version=version("coremltools"),
        torch=version("torch").split("+")[0],
        rows="\n".join(f"- {name}: {why}" for name, why in LEFT_OUT.items()),
    )
    path = Path(ROOT / "docs" / "networks.md")
    path.write_text(text)
    print(f"{len(rows)} conversions in {path}")


def line(row):
    weights = row["precision"] + (f", {row['recipe']}" if row["recipe"] else "")
    cells = [row["network"], row["opset"], weights, f"{row['error']:.1e}", f"{row['own_error']:.1e}"]
    if "ours" in row:
        cells += [
            f"{row['ours'] * 1e3:.2f}",
            f"{row['theirs'] * 1e3:.2f}",
            f"{row['ours'] / row['theirs']:.2f}",
        ]
    else:
        cells += ["", "", ""]
    return f"| {' | '.join(cells)} |"


def item(row, words):
    setting = " ".join(filter(None, (row["opset"], row["precision"], row["recipe"])))
    return f"- {row['network']} ({setting}): {' '.join(words.split())[:300]}"


def machine():
    """The processor, as Linux names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    if not names:
        return platform.processor() or platform.machine()
    return f"{len(names)} cores of {names[0]}"
