"""This project's program."""

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release" / "candle-coreml"


class Failed(Exception):
    """What a program said when it failed."""


def run(command):
    """The JSON object in the last line that a program prints."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip() or f"exit status {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def bench(program, model, threads, *arguments):
    return run([program, "bench", model, "--threads", threads, "--json", *arguments])


def version(program):
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().split()[-1]


def commit():
    """The commit that is checked out, if this is a clone."""
    command = ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None
