"""Language models of one shape with random weights: as Core ML packages, and as GGUF files for llama.cpp."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import gguf_model, ours
from .subject import Comparison, Subject, speeds

TOOLS = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a Qwen 3, by the names of `tools/export`."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int

    def arguments(self):
        sizes = ((f"--{name.replace('_', '-')}", str(value)) for name, value in vars(self).items())
        return [word for pair in sizes for word in pair]


SHAPES = {
    "qwen3-0.6b": Sizes(28, 1024, 16, 8, 128, 3072, 151936, 512),
    # So small that nothing but the way is tried.
    "tiny": Sizes(2, 256, 4, 2, 64, 512, 512, 128),
}
BITS = (8, 6, 4)
KINDS = ("Q8_0", "Q6_K", "Q4_K")


@dataclass(frozen=True)
class Work:
    """What is asked of each model."""

    prompts: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: int
    repeat: int
    threads: int

    def arguments(self):
        return [
            *("--prompt", joined(self.prompts), "--positions", joined(self.positions)),
            *("--tokens", str(self.tokens), "--repeat", str(self.repeat)),
        ]


def joined(numbers):
    return ",".join(map(str, numbers))


def package(folder, shape, bits):
    """The directory of a model that is palettized with so many bits, made if it is not there."""
    directory = folder / f"{shape}-lut{bits}"
    if not (directory / "meta.yaml").exists():
        sizes = SHAPES[shape].arguments()
        lut = ["--lut-ffn", str(bits), "--lut-lmhead", str(bits), "--lut-mode", "uniform"]
        command = [sys.executable, "-m", "anemll_export", directory.resolve(), "--random", *sizes, *lut]
        subprocess.run(command, cwd=TOOLS / "export", check=True, stdout=subprocess.DEVNULL)
    return directory


def comparison(folder, shape, work, program, candle=None):
    """Ours in 8, 6 and 4 bits beside the peers that are there."""
    subjects = [our_subject(folder, shape, bits, work, program) for bits in BITS]
    if importlib.util.find_spec("llama_cpp"):
        subjects += [llama_subject(folder, shape, kind, work) for kind in KINDS]
    if candle:
        subjects += [candle_subject(folder, shape, kind, work, candle) for kind in ("Q8_0", "Q4_K")]
    return Comparison(shape, tuple(subjects), "tokens/s", less_is_better=False)


def our_subject(folder, shape, bits, work, program):
    directory = package(folder, shape, bits)
    measure = lambda: speeds(ours.bench(program, directory, work.threads, *work.arguments()))
    return Subject(f"candle-coreml LUT{bits}", measure, is_ours=True)


def llama_subject(folder, shape, kind, work):
    file = gguf_model.of_kind(folder, shape, SHAPES[shape], kind)
    command = [sys.executable, "-m", "suite.llama", file, "--threads", work.threads, *work.arguments()]
    return Subject(f"llama.cpp {kind}", lambda: speeds(run_here(command)))


def candle_subject(folder, shape, kind, work, candle):
    file = gguf_model.of_kind(folder, shape, SHAPES[shape], kind)
    # Its threads are told by the environment alone.
    command = ["env", f"RAYON_NUM_THREADS={work.threads}", candle.resolve(), file, *work.arguments()]
    return Subject(f"candle {kind}", lambda: speeds(ours.run(command)))


def run_here(command):
    """Runs a module of this folder."""
    command = ["env", f"--chdir={TOOLS / 'bench'}", *command]
    return ours.run(command)
