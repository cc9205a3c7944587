"""Sizes and choices are refused with a reason before any work."""

import json

import pytest
from anemll_export.cli import main
from anemll_export.config import ModelConfig, read_model_config
from anemll_export.errors import ExportError
from anemll_export.options import ExportOptions

RAW = {
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "vocab_size": 100,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5000.0,
    "tie_word_embeddings": False,
}


def read(tmp_path, **changes):
    (tmp_path / "config.json").write_text(json.dumps(RAW | changes))
    return read_model_config(tmp_path)


def test_reads_a_hugging_face_configuration(tmp_path):
    assert read(tmp_path) == ModelConfig(2, 32, 4, 2, 16, 64, 100, 1e-5, 5000.0, False)


def test_reads_rope_theta_from_its_newer_place(tmp_path):
    config = read(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 123.0})
    assert config.rope_theta == 123.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "only `qwen3`"),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "`gelu`"),
        ({"rope_scaling": {"type": "yarn"}}, "`yarn`"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"hidden_size": "many"}, "hidden_size"),
        ({"num_key_value_heads": 3}, "key-value heads"),
        ({"head_dim": 15}, "odd"),
        ({"vocab_size": 0}, "positive"),
    ],
)
def test_refuses_unsupported_models(tmp_path, changes, words):
    with pytest.raises(ExportError, match=words):
        read(tmp_path, **changes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context": 100, "window": 64}, "multiple of window"),
        ({"lut_ffn": 5}, "lut_ffn"),
        ({"lut_mode": "magic"}, "magic"),
        ({"chunks": 0}, "at least 1"),
    ],
)
def test_refuses_bad_options(options, words):
    with pytest.raises(ExportError, match=words):
        ExportOptions(**options)


def test_refuses_more_chunks_than_layers(tmp_path):
    with pytest.raises(ExportError, match="fewer chunks"):
        ExportOptions(chunks=3).check_fits(read(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "checkpoint"),
        (["--random", "--layers", "2"], "--hidden"),
        (["--checkpoint", "nowhere", "--random"], "brings its own sizes"),
        (["--checkpoint", "nowhere"], "cannot read"),
    ],
)
def test_command_line_explains_mistakes(tmp_path, capsys, arguments, words):
    assert main([str(tmp_path / "out"), *arguments]) == 1
    assert words in capsys.readouterr().err
