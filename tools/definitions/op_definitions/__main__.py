"""Writes the engine's table of definitions: `python -m op_definitions [--check]`."""

import argparse
from pathlib import Path

from .registry import definitions
from .rust import table

TABLE = Path(__file__).resolve().parents[3] / "crates/coreml-engine/src/definitions/table.rs"


def main():
    parser = argparse.ArgumentParser(description="write the table of operator definitions")
    parser.add_argument(
        "--check", action="store_true", help="write nothing, only compare with the file there is"
    )
    options = parser.parse_args()
    rows = definitions()
    text = table(rows)
    if not options.check:
        TABLE.write_text(text)
        print(f"{len(rows)} definitions written to {TABLE}")
    elif TABLE.read_text() == text:
        print(f"{TABLE} holds the {len(rows)} definitions of coremltools")
    else:
        raise SystemExit(f"{TABLE} is not what `python -m op_definitions` writes")


main()
