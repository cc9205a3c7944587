"""Counts the instructions that the program takes for some work, and compares them with those recorded.

    python count.py [--record] [--program target/debug/candle-coreml] [--only NAME]

Valgrind counts them, so that neither other programs nor the machine's speed matter: two runs differ by less than
a thousandth. What it counts is parsing, planning, and kernels on AVX2 and in portable code, one thread each;
AVX-512 it does not know. Counts hang on the compiler and the C library as well, hence a tolerance. A count beyond
it in either direction fails: more is to be looked into, less to be recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDED = HERE / "recorded.json"

# How far counts may be from those recorded, as a part of them.
TOLERANCE = 0.05

PACKAGES = "fixtures/packages"
CHUNK = "fixtures/llm/two-chunks-fp16"
WORK: dict[str, tuple[str, list[str]]] = {
    # name: (instruction set, arguments)
    "read a package": ("generic", ["inspect", f"{PACKAGES}/linear_functions_ios18.mlpackage", "--json"]),
    "plan a decoder": ("generic", ["inspect", "{decoder}", "--plan"]),
    "predict, avx2": ("avx2", ["predict", f"{PACKAGES}/conv_range_of_shapes_ios17.mlpackage", "--input", "x=0", "--json"]),
    "16 tokens, generic": ("generic", ["generate", "Once upon a time", "--max-tokens", "16", "--temperature", "0"]),
    "16 tokens, avx2": ("avx2", ["generate", "Once upon a time", "--max-tokens", "16", "--temperature", "0"]),
}


def decoder() -> str:
    """A package of a language model with a state."""
    found = sorted((ROOT / CHUNK).glob("*FFN*.mlpackage")) or sorted((ROOT / CHUNK).glob("*.mlpackage"))
    return str(found[0].relative_to(ROOT))


def count(program: Path, isa: str, arguments: list[str]) -> int:
    """Instructions of one run of the program."""
    arguments = [decoder() if argument == "{decoder}" else argument for argument in arguments]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "CANDLE_COREML_ISA": isa,
        "CANDLE_COREML_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", str(program), *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise SystemExit(f"valgrind told no count:\n{done.stderr}")
    return int(found.group(1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target/debug/candle-coreml")
    parser.add_argument("--record", action="store_true", help="writes the counts to recorded.json")
    parser.add_argument("--only", metavar="NAME", help="the work with this name alone")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed; `apt install valgrind`")
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    failed = False
    for name, (isa, work) in WORK.items():
        if arguments.only not in (None, name):
            continue
        got, expected = count(arguments.program.resolve(), isa, work), recorded.get(name)
        if arguments.record:
            recorded[name] = got
            print(f"{name}: {got:,}", flush=True)
            continue
        change = got / expected - 1 if expected else float("inf")
        failed |= abs(change) > TOLERANCE
        print(f"{name}: {got:,}, {change:+.1%} of {expected or 0:,}", flush=True)
    if arguments.record:
        RECORDED.write_text(json.dumps(recorded, indent=2) + "\n")
    if failed:
        print(f"beyond ±{TOLERANCE:.0%}: look into what takes more, then `python {Path(__file__).name} --record`")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
