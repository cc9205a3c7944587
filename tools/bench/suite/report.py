"""Rounds in turns, ratios of each round, and how they are told."""

import datetime
import importlib.metadata
import platform
import statistics
import sys

from . import ours

PACKAGES = ("llama-cpp-python", "onnxruntime", "openvino", "torch", "coremltools")


def measure(comparison, rounds, tell=lambda text: print(text, file=sys.stderr, flush=True)):
    """Runs all subjects in turns; gives metric → subject → a number for each round. A subject that fails is left
    out from then on, and told."""
    results, failed = {}, {}
    for number in range(rounds):
        for subject in comparison.subjects:
            if subject.name in failed:
                continue
            try:
                metrics = subject.measure()
            except ours.Failed as error:
                failed[subject.name] = str(error)
                tell(f"{subject.name} failed: {error}")
                continue
            for metric, value in metrics.items():
                results.setdefault(metric, {}).setdefault(subject.name, []).append(value)
            tell(f"{comparison.name}, round {number + 1}, {subject.name}: {shown(metrics)}")
    return results, failed


def shown(metrics):
    return ", ".join(f"{metric} {value:.4g}" for metric, value in metrics.items())


def ratio(mine, theirs, less_is_better):
    """How many times as fast as a peer: the median of rounds, which were run one after the other."""
    pairs = list(zip(mine, theirs))
    if not pairs:
        return None
    return statistics.median(b / a if less_is_better else a / b for a, b in pairs)


def ratios(comparison, results):
    """Metric → our subject → peer → ratio, above 1 where we are faster."""
    mine = [subject.name for subject in comparison.subjects if subject.is_ours]
    found = {}
    for metric, by_subject in results.items():
        for name in mine:
            peers = {
                peer: ratio(by_subject[name], values, comparison.less_is_better)
                for peer, values in by_subject.items()
                if peer not in mine and name in by_subject
            }
            found.setdefault(metric, {})[name] = peers
    return found


def table(comparison, results):
    """A table in Markdown: medians of the rounds, and for ours how many times as fast as each peer."""
    metrics = list(results)
    found = ratios(comparison, results)
    lines = [
        f"| {comparison.name} | " + " | ".join(f"{metric}, {comparison.unit}" for metric in metrics) + " |",
        "| --- |" + " --- |" * len(metrics),
    ]
    for subject in comparison.subjects:
        cells = [cell(results[metric].get(subject.name)) for metric in metrics]
        if any(cells):
            lines.append(f"| {subject.name} | " + " | ".join(cells) + " |")
    for subject in comparison.subjects:
        peers = dict.fromkeys(peer for metric in metrics for peer in found[metric].get(subject.name, {}))
        for peer in peers:
            cells = [times(found[metric][subject.name].get(peer)) for metric in metrics]
            lines.append(f"| {subject.name} ÷ {peer} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(values):
    return f"{statistics.median(values):.4g}" if values else ""


def times(ratio):
    return f"{ratio:.2f} ×" if ratio else ""


def about(program, threads):
    """What figures hang on."""
    return {
        "cpu": cpu(),
        "date": datetime.date.today().isoformat(),
        "threads": threads,
        "candle-coreml": ours.version(program),
        "commit": ours.commit(),
        **{name: version(name) for name in PACKAGES if version(name)},
    }


def cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def in_words(facts):
    return ", ".join(f"{name} {value}" if name != "cpu" else value for name, value in facts.items() if value)
