"""Runs this project and other programs on the same models in turns, and tells how many times as fast it is."""

import argparse
import json
from pathlib import Path

from suite import encoders, language, ours, report


def main():
    options = arguments()
    folder = options.work
    folder.mkdir(parents=True, exist_ok=True)
    facts = report.about(options.program, options.threads)
    found, tables = {}, [report.in_words(facts) + "\n"]
    for comparison in comparisons(options, folder):
        results, failed = report.measure(comparison, options.rounds)
        ratios = report.ratios(comparison, results)
        found[comparison.name] = {"results": results, "ratios": ratios, "failed": failed}
        tables.append(report.table(comparison, results))
        print(tables[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps({"about": facts, "comparisons": found}, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text("\n".join(tables))


def comparisons(options, folder):
    """Each made ready when it is its turn."""
    if options.what == "encoders":
        for name in options.network or encoders.NETWORKS:
            yield encoders.comparison(folder, name, options.repeat, options.threads, options.program)
        return
    work = language.Work(
        tuple(options.prompt), tuple(options.positions), options.tokens, options.repeat, options.threads
    )
    yield language.comparison(folder, options.shape, work, options.program, options.candle)


def numbers(text):
    return [int(number) for number in text.split(",")]


def arguments():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--rounds", type=int, default=5, help="turns (5); ratios are medians of all")
    common.add_argument("--threads", type=int, default=2, help="threads of each program (2)")
    common.add_argument("--program", type=Path, default=ours.PROGRAM, help="candle-coreml, built with --release")
    common.add_argument("--work", type=Path, default=ours.TARGET / "bench", help="folder for models")
    common.add_argument("--json", type=Path, metavar="FILE", help="writes all figures")
    common.add_argument("--markdown", type=Path, metavar="FILE", help="writes the tables")
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    text = what.add_parser("language", parents=[common], help="language models of random weights")
    text.add_argument("--shape", choices=language.SHAPES, default="qwen3-0.6b")
    text.add_argument("--prompt", type=numbers, default=[64, 448], metavar="N,…")
    text.add_argument("--positions", type=numbers, default=[0, 448], metavar="N,…")
    text.add_argument("--tokens", type=int, default=16, help="tokens that are decoded from each position on (16)")
    text.add_argument("--repeat", type=int, default=3, help="runs in each turn, whose median counts (3)")
    text.add_argument("--candle", type=Path, metavar="PROGRAM", help="candle's program, see README.md")
    networks = what.add_parser("encoders", parents=[common], help="networks of torchvision and transformers")
    networks.add_argument("network", nargs="*", choices=[[], *encoders.NETWORKS], help="all unless given")
    networks.add_argument("--repeat", type=int, default=30, help="predictions in each turn (30)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
