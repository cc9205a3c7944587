"""Rounds, ratios and tables, of subjects that measure nothing."""

import numpy as np
import pytest

from suite import gguf_model, language, ours, report
from suite.subject import Comparison, Subject, speeds


def subject(name, values, is_ours=False):
    values = iter(values)
    return Subject(name, lambda: {"fastest": next(values)}, is_ours)


def times(less_is_better=True):
    mine = subject("mine", [2.0, 4.0, 8.0], is_ours=True)
    return Comparison("net", (mine, subject("peer", [1.0, 4.0, 16.0])), "ms", less_is_better)


def test_subjects_run_in_turns_and_ratios_are_those_of_rounds():
    told = []
    results, failed = report.measure(times(), 3, told.append)
    assert results == {"fastest": {"mine": [2.0, 4.0, 8.0], "peer": [1.0, 4.0, 16.0]}} and not failed
    assert ["mine" in line for line in told] == [True, False] * 3
    assert report.ratios(times(), results) == {"fastest": {"mine": {"peer": 1.0}}}
    assert report.ratio([2.0], [1.0], less_is_better=True) == 0.5
    assert report.ratio([2.0], [1.0], less_is_better=False) == 2.0
    assert report.ratio([], [1.0], less_is_better=False) is None


def test_tables_have_medians_and_ratios():
    results, _ = report.measure(times(), 3, lambda _: None)
    lines = report.table(times(), results).splitlines()
    assert lines == [
        "| net | fastest, ms |",
        "| --- | --- |",
        "| mine | 4 |",
        "| peer | 4 |",
        "| mine ÷ peer | 1.00 × |",
    ]


def test_a_subject_that_fails_is_left_out_and_told():
    def fail():
        raise ours.Failed("no such file")

    both = Comparison("net", (Subject("bad", fail, is_ours=True), subject("peer", [1.0, 2.0])), "ms", True)
    results, failed = report.measure(both, 2, lambda _: None)
    assert results == {"fastest": {"peer": [1.0, 2.0]}} and failed == {"bad": "no such file"}
    assert "bad" not in report.table(both, results)


def test_speeds_have_a_metric_for_each_length():
    report = {
        "prefill": [{"tokens": 64, "tokens_per_second": 100.0}],
        "decode": [{"position": 0, "tokens_per_second": 20.0}],
    }
    assert speeds(report) == {"decode at 0": 20.0, "prompt of 64": 100.0}


@pytest.mark.parametrize("kind", language.KINDS)
def test_blocks_hold_finite_numbers(kind):
    quants = pytest.importorskip("gguf.quants")
    import gguf

    data = gguf_model.blocks(np.random.default_rng(0), 3, 512, kind)
    numbers = quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    assert numbers.shape == (3, 512) and np.isfinite(numbers).all() and numbers.std() > 1e-4
    with pytest.raises(ValueError, match="multiple"):
        gguf_model.blocks(np.random.default_rng(0), 3, 100, kind)


def test_a_file_holds_all_tensors_of_a_model(tmp_path):
    gguf = pytest.importorskip("gguf")
    sizes = language.SHAPES["tiny"]
    file = gguf_model.of_kind(tmp_path, "tiny", sizes, "Q8_0")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    assert len(tensors) == 2 + sizes.layers * 11
    assert list(tensors["blk.1.ffn_down.weight"].shape) == [sizes.ffn, sizes.hidden]
    assert not list(tmp_path.glob("*.part"))


def test_sizes_are_words_of_a_command_line():
    words = language.SHAPES["tiny"].arguments()
    assert words[:4] == ["--layers", "2", "--hidden", "256"] and "--kv-heads" in words
