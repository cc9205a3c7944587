"""`python -m llm_fixtures DIRECTORY [NAME...]` makes fixtures; all of them where none is named."""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from anemll_export.cli import main as export

from llm_fixtures.cases import CONTEXT, FIXTURES, Fixture
from llm_fixtures.expected import write_expected
from llm_fixtures.reference import load_reference, write_checkpoint
from llm_fixtures.shorten import shorten_names


def main():
    """Writes each fixture into a directory of its name."""
    names = [fixture.name for fixture in FIXTURES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory that holds the fixtures")
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=", ".join(names))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)  # the models are too small to share out
    for fixture in FIXTURES:
        if not args.names or fixture.name in args.names:
            build(fixture, args.output / fixture.name)


def build(fixture: Fixture, output: Path):
    """Makes one fixture, replacing what was there."""
    shutil.rmtree(output, ignore_errors=True)
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory)
        write_checkpoint(checkpoint, fixture.model, fixture.seed, CONTEXT)
        _add_defaults(checkpoint / "generation_config.json", fixture.generation)
        code = export([
            str(output), "--checkpoint", directory, "--name", fixture.name,
            "--license", "MIT OR Apache-2.0", "--context", str(CONTEXT),
            "--window", str(fixture.window), *fixture.options,
        ])
        if code:
            sys.exit(code)
        for package in output.glob("*.mlpackage"):
            shorten_names(package)
        write_expected(output, load_reference(checkpoint, output), list(fixture.lengths), CONTEXT)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{fixture.name}: {size / 1000:.0f} kB")


def _add_defaults(path: Path, more: dict):
    found = json.loads(path.read_text(encoding="utf-8")) | more
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
