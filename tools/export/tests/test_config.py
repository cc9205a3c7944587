"""Sizes and choices are refused with a reason before any work."""

import json

import numpy as np
import pytest
from anemll_export.cli import main
from anemll_export.config import (
    FULL,
    LINEAR,
    SLIDING,
    LinearAttention,
    ModelConfig,
    read_model_config,
)
from anemll_export.errors import ExportError
from anemll_export.options import ExportOptions
from anemll_export.rope import RopeScaling
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

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


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_reads_the_scaling_of_llama(tmp_path, key):
    scaling = {"rope_type": "llama3", **LLAMA3}
    config = read(tmp_path, model_type="llama", head_dim=None, **{key: scaling})
    assert config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192.0)
    assert config.rope_theta == 5000.0
    assert config.head_dim == 8
    assert not config.family.qk_norm and not config.qkv_bias


def test_llama_frequencies_are_scaled_as_transformers_does():
    parameters = {"rope_type": "llama3", "rope_theta": 500_000.0, **LLAMA3}
    config = LlamaConfig(hidden_size=64, num_attention_heads=1, head_dim=64, rope_parameters=parameters)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500_000.0 ** -(np.arange(0, 64, 2) / 64)
    scaled = RopeScaling(8.0, 1.0, 4.0, 8192.0).apply(plain)
    np.testing.assert_allclose(scaled, frequencies.numpy(), rtol=1e-5)
    # All three ways are met: kept, blended, divided.
    ratios = plain / scaled
    assert ratios.min() == 1 and ratios.max() == pytest.approx(8) and ((ratios > 1.1) & (ratios < 7)).any()


def test_reads_biases_of_qwen25(tmp_path):
    assert read(tmp_path, model_type="qwen2").qkv_bias


GEMMA = {"model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 32,
         "num_hidden_layers": 7, "query_pre_attn_scalar": 256}


def test_reads_gemma_in_its_older_form(tmp_path):
    config = read(tmp_path, **GEMMA, sliding_window_pattern=6, rope_local_base_freq=123.0)
    assert config.of_kind(FULL) == [5]
    assert config.of_kind(SLIDING) == [0, 1, 2, 3, 4, 6]
    assert (config.rope_theta, config.local_theta) == (5000.0, 123.0)
    assert config.attention_scale == 1 / 16


def test_reads_gemma_in_its_newer_form(tmp_path):
    kinds = [SLIDING, FULL, SLIDING, SLIDING, SLIDING, SLIDING, FULL]
    rope = {
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 77.0},
        SLIDING: {"rope_type": "default", "rope_theta": 66.0},
    }
    config = read(tmp_path, **GEMMA, layer_types=kinds, rope_parameters=rope)
    assert config.layer_kinds == tuple(kinds)
    assert (config.rope_theta, config.local_theta) == (77.0, 66.0)
    assert config.rope_scaling == RopeScaling(8.0)


def test_reads_the_language_model_of_one_that_also_sees(tmp_path):
    inner = RAW | GEMMA | {"tie_word_embeddings": True, "model_type": "gemma3_text"}
    raw = {"model_type": "gemma3", "text_config": inner, "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    config = read_model_config(tmp_path)
    assert config.model_type == "gemma3_text" and config.tied


def test_reads_gated_delta_layers(tmp_path):
    linear = {
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
        "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4,
    }
    rope = {"rope_type": "default", "rope_theta": 9.0, "partial_rotary_factor": 0.25}
    config = read(tmp_path, model_type="qwen3_5_text", num_hidden_layers=4, rope_parameters=rope, **linear)
    assert config.layer_kinds == (LINEAR, LINEAR, LINEAR, FULL)
    assert config.linear == LinearAttention(2, 4, 8, 16, 4)
    assert config.linear.channels == 2 * 2 * 8 + 4 * 16
    assert config.turned == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "only `qwen3`"),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "`gelu`"),
        ({"rope_scaling": {"type": "yarn"}}, "`yarn`"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding-window"),
        ({"rope_scaling": {"type": "llama3", "factor": 8}}, "low_freq_factor"),
        ({**GEMMA, "final_logit_softcapping": 30.0}, "soft caps"),
        ({**GEMMA, "layer_types": ["chunked_attention"] * 7}, "chunked_attention"),
        ({**GEMMA, "hidden_activation": "silu"}, "`silu`"),
        ({"model_type": "qwen3_5_text", "num_hidden_layers": 4}, "linear_num_key_heads"),
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
        ({"layout": "other"}, "layout"),
        ({"state_rows": 256}, "cannot hold 512"),
        ({"state_rows": 1024, "update_mask": "prefill"}, "update mask"),
        ({"monolithic": True, "chunks": 2}, "monolithic"),
        ({"layout": "apple", "argmax": True}, "one function"),
    ],
)
def test_refuses_bad_options(options, words):
    with pytest.raises(ExportError, match=words):
        ExportOptions(**options)


def test_refuses_more_chunks_than_layers(tmp_path):
    with pytest.raises(ExportError, match="fewer chunks"):
        ExportOptions(chunks=3).check_fits(read(tmp_path))


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"head_sizes": (60, 30)}, "do not make up"),
        ({}, {"split_rotate": True}, "sliding-window models"),
        (GEMMA, {"layout": "apple"}, "caches of its own"),
        (GEMMA, {"window": 64}, "multiple of window"),
        (GEMMA, {"window": 8, "split_functions": True}, "--split-rotate"),
    ],
)
def test_refuses_layouts_that_do_not_suit_the_model(tmp_path, changes, options, words):
    with pytest.raises(ExportError, match=words):
        ExportOptions(**options).check_fits(read(tmp_path, **changes))


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
