"""Exports are compared with their source weights and with the interface table, without an engine.

The interfaces are those ANEMLL gives its Qwen 3 models.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from anemll_export.cli import main
from anemll_export.config import PRESETS, read_model_config
from anemll_export.package import chunk_layers, head_part_sizes
from anemll_export.options import ExportOptions
from anemll_export.readback import (
    checkpoint_weights,
    enumerated_shapes,
    package_constants,
    read_package,
)
from coremltools.models.utils import load_spec
from safetensors.torch import save_file

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB = 3, 32, 4, 2, 16, 48, 200
CONTEXT, WINDOW = 64, 16
STATE = ("model_model_kv_cache_0", "FLOAT16", (2 * LAYERS, KV_HEADS, CONTEXT, HEAD_DIM))
SHAPES = {
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
    "self_attn.q_norm": (HEAD_DIM,),
    "self_attn.k_norm": (HEAD_DIM,),
    "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}
CONFIG = {
    "model_type": "qwen3",
    "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "intermediate_size": FFN,
    "vocab_size": VOCAB,
    "rope_theta": 10000.0,
}


def tensors(tied):
    """bf16 weights, exact in fp16 at this scale, under their Hugging Face names."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    if not tied:
        shapes["lm_head.weight"] = (VOCAB, HIDDEN)
    for layer in range(LAYERS):
        shapes |= {f"model.layers.{layer}.{name}.weight": s for name, s in SHAPES.items()}
    return {name: torch.randn(s, generator=generator).bfloat16() for name, s in shapes.items()}


def write_checkpoint(directory, tied, sharded=False):
    directory.mkdir()
    weights = tensors(tied)
    (directory / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": tied}))
    (directory / "tokenizer.json").write_text("{}")
    if not sharded:
        save_file(weights, directory / "model.safetensors")
        return weights
    index = {}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2])):
        save_file({name: weights[name] for name in names}, directory / f"part{number}.safetensors")
        index |= dict.fromkeys(names, f"part{number}.safetensors")
    text = json.dumps({"weight_map": index})
    (directory / "model.safetensors.index.json").write_text(text)
    return weights


def export(directory, checkpoint, *options):
    arguments = [str(directory), "--checkpoint", str(checkpoint), "--name", "test"]
    arguments += ["--context", str(CONTEXT), "--window", str(WINDOW), *options]
    assert main(arguments) == 0


@pytest.fixture(scope="module")
def two_chunks(tmp_path_factory):
    """An untied, sharded checkpoint exported in fp16 and two chunks, with its weights."""
    root = tmp_path_factory.mktemp("two_chunks")
    weights = write_checkpoint(root / "in", tied=False, sharded=True)
    export(root / "out", root / "in", "--chunks", "2")
    return root / "out", weights


@pytest.fixture(scope="module")
def palettized(tmp_path_factory):
    """A tied checkpoint in one chunk with tables of 4, 6 and 8 bits, with its weights."""
    root = tmp_path_factory.mktemp("palettized")
    weights = write_checkpoint(root / "in", tied=True)
    luts = ["--lut-ffn", "6", "--lut-lmhead", "4", "--lut-embeddings", "8"]
    export(root / "out", root / "in", *luts)
    return root / "out", weights


def test_fp16_weights_are_the_checkpoints(two_chunks):
    directory, weights = two_chunks
    exported = checkpoint_weights(directory, read_model_config(directory.parent / "in"))
    assert set(exported) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(exported[name], value.float().numpy(), err_msg=name)


def test_palettized_weights_stay_near_the_checkpoints(palettized):
    directory, weights = palettized
    exported = checkpoint_weights(directory, read_model_config(directory.parent / "in"))
    weights = weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}
    # Mean squared error over variance; 16 levels on a normal distribution reach 0.0095.
    limits = {"lm_head.weight": 0.012, "model.embed_tokens.weight": 0.0002}
    for name, value in weights.items():
        value = value.float().numpy()
        if value.ndim == 1:
            np.testing.assert_array_equal(exported[name], value, err_msg=name)
            continue
        error = np.square(exported[name] - value).mean() / value.var()
        assert error < limits.get(name, 0.002), name


def test_rope_tables(two_chunks):
    exported = package_constants(two_chunks[0])
    for position in (0, 1, 37, CONTEXT - 1):
        for pair in range(HEAD_DIM // 2):
            angle = position / 10000.0 ** (2 * pair / HEAD_DIM)
            for column in (pair, pair + HEAD_DIM // 2):
                row = exported["rope_cos"].reshape(CONTEXT, HEAD_DIM)[position]
                assert row[column] == pytest.approx(np.cos(angle), abs=5e-4)
                row = exported["rope_sin"].reshape(CONTEXT, HEAD_DIM)[position]
                assert row[column] == pytest.approx(np.sin(angle), abs=5e-4)


@pytest.mark.parametrize(("chunk", "rows"), [("01of02", WINDOW), ("02of02", 1)])
def test_chunk_interfaces(two_chunks, chunk, rows):
    functions = read_package(two_chunks[0] / f"qwen_FFN_PF_chunk_{chunk}.mlpackage")
    assert set(functions) == {"infer", "prefill"}
    for name, size, out in (("infer", 1, 1), ("prefill", WINDOW, rows)):
        assert functions[name].inputs == [
            ("hidden_states", "FLOAT16", (1, size, HIDDEN)),
            ("position_ids", "INT32", (size,)),
            ("causal_mask", "FLOAT16", (1, 1, size, CONTEXT)),
            ("current_pos", "INT32", (1,)),
        ]
        assert functions[name].outputs == [("output_hidden_states", "FLOAT16", (1, out, HIDDEN))]
        assert functions[name].states == [STATE]


def test_functions_share_weights(two_chunks, palettized):
    for path in [*two_chunks[0].glob("*FFN*"), *palettized[0].glob("*FFN*")]:
        functions = read_package(path)
        infer, prefill = functions["infer"].offsets, functions["prefill"].offsets
        assert set(infer) - set(prefill) <= {"model_model_norm_weight"}
        assert {name: infer[name] for name in prefill} == prefill


def test_only_the_last_chunk_holds_the_final_norm(two_chunks):
    first = read_package(two_chunks[0] / "qwen_FFN_PF_chunk_01of02.mlpackage")
    last = read_package(two_chunks[0] / "qwen_FFN_PF_chunk_02of02.mlpackage")
    assert "model_model_norm_weight" not in first["infer"].weights
    assert "model_model_norm_weight" in last["infer"].weights


def test_embeddings_interface(two_chunks, palettized):
    for directory, stem in ((two_chunks[0], "qwen_embeddings"), (palettized[0], "qwen_embeddings_lut8")):
        path = directory / f"{stem}.mlpackage"
        main_function = read_package(path)["main"]
        assert main_function.inputs == [("input_ids", "INT32", (1, 1))]
        assert enumerated_shapes(path) == [(1, 1), (1, WINDOW)]
        assert [output[:2] for output in main_function.outputs] == [("hidden_states", "FLOAT16")]


def test_window_of_one_has_a_fixed_shape(tmp_path):
    write_checkpoint(tmp_path / "in", tied=True)
    assert main([str(tmp_path / "out"), "--checkpoint", str(tmp_path / "in"), "--window", "1",
                 "--context", "64"]) == 0
    path = tmp_path / "out" / "qwen_embeddings.mlpackage"
    assert enumerated_shapes(path) == []
    assert read_package(path)["main"].outputs == [("hidden_states", "FLOAT16", (1, 1, HIDDEN))]


def test_head_interface(palettized):
    head = read_package(palettized[0] / "qwen_lm_head_lut4.mlpackage")["main"]
    assert head.inputs == [("hidden_states", "FLOAT16", (1, 1, HIDDEN))]
    sizes = [16] * 9 + [8] * 7
    assert head.outputs == [
        (f"logits{number}", "FLOAT16", (1, 1, size)) for number, size in enumerate(sizes, start=1)
    ]


def test_meta_yaml(palettized):
    text = (palettized[0] / "meta.yaml").read_text()
    for line in (
        "  name: anemll-test-ctx64",
        "  version: 0.3.5",
        "  architecture: qwen3",
        "    context_length: 64",
        "    batch_size: 16",
        "    lut_embeddings: 8",
        "    lut_ffn: 6",
        "    lut_lmhead: 4",
        "    num_chunks: 1",
        "    model_prefix: qwen",
        "    embeddings: qwen_embeddings_lut8.mlmodelc",
        "    lm_head: qwen_lm_head_lut4.mlmodelc",
        "    ffn: qwen_FFN_PF_lut6_chunk_01of01.mlmodelc",
        "    split_lm_head: 16",
        "    vocab_size: 200",
        "    lm_head_chunk_sizes: [16, 16, 16, 16, 16, 16, 16, 16, 16, 8, 8, 8, 8, 8, 8, 8]",
        "    prefill_dynamic_slice: true",
    ):
        assert line in text.splitlines()
    assert (palettized[0] / "tokenizer.json").read_text() == "{}"


def test_random_weights_do_not_depend_on_the_chunks(tmp_path):
    sizes = ["--layers", "2", "--hidden", "16", "--heads", "2", "--kv-heads", "1", "--head-dim", "8",
             "--ffn", "32", "--vocab", "264", "--context", "32", "--window", "8"]
    exported = []
    for chunks in ("1", "2"):
        assert main([str(tmp_path / chunks), "--random", *sizes, "--chunks", chunks]) == 0
        exported.append(package_constants(tmp_path / chunks))
    assert set(exported[0]) == set(exported[1])
    for name, value in exported[0].items():
        np.testing.assert_array_equal(value, exported[1][name], err_msg=name)


def test_a_missing_or_misshapen_weight_is_named(tmp_path, capsys):
    weights = write_checkpoint(tmp_path / "in", tied=True)
    weights["model.norm.weight"] = torch.ones(HIDDEN + 1)
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "in" / "model.safetensors")
    for expected in ("model.layers.0.mlp.up_proj.weight", "model.norm.weight"):
        assert main([str(tmp_path / "out"), "--checkpoint", str(tmp_path / "in"), "--window", "1"]) == 1
        assert f"`{expected}`" in capsys.readouterr().err
        weights["model.layers.0.mlp.up_proj.weight"] = torch.ones(FFN, HIDDEN)
        save_file(weights, tmp_path / "in" / "model.safetensors")


@pytest.mark.parametrize(
    ("vocab", "parts", "sizes"),
    [
        (1024, 16, [64] * 16),
        (200, 16, [16] * 9 + [8] * 7),
        (199, 8, [25] * 7 + [24]),
        (24, 16, [2] * 8 + [1] * 8),
    ],
)
def test_head_parts(vocab, parts, sizes):
    config = replace(PRESETS["qwen3-0.6b"], vocab=vocab)
    assert head_part_sizes(config, ExportOptions(head_parts=parts)) == sizes


def test_chunks_take_the_layers_in_order():
    assert chunk_layers(7, 3) == [range(0, 3), range(3, 5), range(5, 7)]


def test_every_argument_names_an_earlier_value(two_chunks, palettized):
    for path in [*two_chunks[0].glob("*.mlpackage"), *palettized[0].glob("*.mlpackage")]:
        for function in read_program(path).functions.values():
            block = function.block_specializations[function.opset]
            known = {feature.name for feature in function.inputs}
            constants = set()
            for operation in block.operations:
                for argument in operation.inputs.values():
                    names = [b.name for b in argument.arguments if b.WhichOneof("binding") == "name"]
                    assert known.issuperset(names), (path, operation)
                outputs = [output.name for output in operation.outputs]
                assert known.isdisjoint(outputs), (path, operation)
                known.update(outputs)
                if operation.type == "const":
                    value = operation.attributes["val"].SerializeToString(deterministic=True)
                    assert value not in constants, (path, operation)
                    constants.add(value)
            assert known.issuperset(block.outputs)


def read_program(path):
    """The program of a package as coremltools' own loader gives it."""
    return load_spec(str(path)).mlProgram
