"""What is measured beside others: a program with a model."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """`measure` runs it once and gives a number for each metric."""

    name: str
    measure: Callable[[], dict[str, float]]
    is_ours: bool = False


@dataclass(frozen=True)
class Comparison:
    """Subjects that do the same. Where `less_is_better`, metrics are times; else they are rates."""

    name: str
    subjects: tuple[Subject, ...]
    unit: str
    less_is_better: bool


def speeds(report):
    """The metrics of a language model's benchmark, ours or a peer's."""
    prompts = {f"prompt of {p['tokens']}": p["tokens_per_second"] for p in report["prefill"]}
    decoded = {f"decode at {d['position']}": d["tokens_per_second"] for d in report["decode"]}
    return {**decoded, **prompts}
