"""`python -m networks [NAME …]`: converts networks, runs them here and by PyTorch, and writes the table."""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(prog="networks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these networks; all of them otherwise")
    parser.add_argument("--work", type=Path, help="folder for converted models and results (target/networks)")
    parser.add_argument("--reuse", action="store_true", help="take models that are already in the folder")
    parser.add_argument("--turns", type=int, default=0, help="measure the time in so many turns with PyTorch")
    parser.add_argument(
        "--sample", action="store_true", help="the few small networks of the project's checks"
    )
    parser.add_argument(
        "--table", action="store_true", help="write docs/networks.md from the results so far, and do no more"
    )
    options = parser.parse_args()
    be_quiet()

    from . import catalogue, engine, run, table

    folder = options.work or engine.TARGET / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    if options.table:
        return table.write(run.read_results(folder))
    names = catalogue.SAMPLE if options.sample else options.names or list(catalogue.NETWORKS)
    recipes = catalogue.FEW if options.sample else None
    failed = 0
    for name in names:
        rows = []
        for row in run.rows(catalogue.NETWORKS[name], folder, options.turns, options.reuse, recipes):
            rows.append(row)
            wrong = run.verdict(row)
            failed += wrong is not None
            print(describe(row), wrong or "", sep="  ", flush=True)
        run.keep_results(folder, name, rows)
    sys.exit(f"{failed} conversions are not as they should be" if failed else 0)


def be_quiet():
    """Only results are shown: neither bars of progress nor warnings of libraries."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    os.environ["TQDM_DISABLE"] = "1"


def describe(row):
    words = [row["network"], row["opset"], row["precision"], row["recipe"] or ""]
    if "error" in row:
        words.append(f"{row['error']:.1e} (PyTorch {row['own_error']:.1e})")
    if "ours" in row:
        words.append(f"{row['ours'] * 1e3:.1f} ms, PyTorch {row['theirs'] * 1e3:.1f} ms")
    return " ".join(filter(None, words))


main()
