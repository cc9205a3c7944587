"""What the packages of each layout declare, against tables of ANEMLL's and Apple's interfaces."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from anemll_export.cli import main
from anemll_export.readback import enumerated_shapes, read_package
from coremltools.proto import Model_pb2
from llm_fixtures import driver
from llm_fixtures.cases import GEMMA3
from llm_fixtures.reference import write_checkpoint

ROOT = Path(__file__).resolve().parents[3] / "fixtures" / "llm"
CONTEXT, WINDOW, SLIDING, HIDDEN = 64, 8, 16, 32
HALF, INTEGER = "FLOAT16", "INT32"
CACHE = ("model_model_kv_cache_0", HALF, (4, 2, CONTEXT, 16))


def inputs(size, *more, ids=False):
    """The inputs of a chunk's function for so many positions."""
    first = ("input_ids", INTEGER, (1, size)) if ids else ("hidden_states", HALF, (1, size, HIDDEN))
    return [
        first,
        ("position_ids", INTEGER, (size,)),
        ("causal_mask", HALF, (1, 1, size, CONTEXT)),
        ("current_pos", INTEGER, (1,)),
        *more,
    ]


def update_mask(size):
    return ("update_mask", HALF, (1, 1, CONTEXT, size))


def hidden(size):
    return [("output_hidden_states", HALF, (1, size, HIDDEN))]


def logits(size, *parts):
    return [(f"logits{n}", HALF, (1, size, part)) for n, part in enumerate(parts, start=1)]


def argmax(parts):
    return [("argmax_idx", INTEGER, (parts,)), ("argmax_val", HALF, (parts,))]


def functions(fixture, package):
    return read_package(ROOT / fixture / f"{package}.mlpackage")


def parameters(fixture):
    return yaml.safe_load((ROOT / fixture / "meta.yaml").read_text())["model_info"]["parameters"]


def check(function, wanted_inputs, wanted_outputs, wanted_states):
    assert function.inputs == wanted_inputs
    assert function.outputs == wanted_outputs
    assert sorted(function.states) == sorted(wanted_states)


@pytest.mark.parametrize(
    ("fixture", "prefix", "masks"),
    [("qwen3-split-functions", "qwen", ()), ("qwen3-old-split", "qwen", ("infer",))],
)
def test_split_functions_are_packages_with_one_function(fixture, prefix, masks):
    chunks = parameters(fixture)["num_chunks"]
    for number in range(1, chunks + 1):
        suffix = f"chunk_{number:02}of{chunks:02}"
        for kind, name, size in (("FFN", "infer", 1), ("prefill", "prefill", WINDOW)):
            found = functions(fixture, f"{prefix}_{kind}_{suffix}")
            assert list(found) == ["main"]
            mask = [update_mask(size)] if name in masks else []
            rows = size if number < chunks else 1
            check(found["main"], inputs(size, *mask), hidden(rows), [CACHE])
    assert parameters(fixture)["ffn"] == f"{prefix}_FFN_chunk_01of{chunks:02}.mlmodelc"
    assert parameters(fixture)["pf"] == f"{prefix}_prefill_chunk_01of{chunks:02}.mlmodelc"


def test_update_masks_of_prefill():
    found = functions("qwen3-update-mask", "qwen_FFN_PF_chunk_01of01")
    check(found["infer"], inputs(1), hidden(1), [CACHE])
    check(found["prefill"], inputs(WINDOW, update_mask(WINDOW)), hidden(1), [CACHE])
    assert parameters("qwen3-update-mask")["update_mask_prefill"] is True
    assert "prefill_dynamic_slice" not in parameters("qwen3-update-mask")


@pytest.mark.parametrize("fixture", ["qwen3-static-prefill", "gemma3-static-prefill"])
def test_static_prefill_writes_the_first_rows_wherever_it_is(fixture):
    package = driver.Package(next((ROOT / fixture).glob("*_FFN_PF_*")))
    states = {name: np.zeros(shape, np.float32) for name, shape in package.states["prefill"].items()}
    given = {name: np.zeros(shape, np.float32) for name, shape in package.inputs["prefill"].items()}
    given |= {
        "hidden_states": np.random.default_rng(0).standard_normal((1, WINDOW, HIDDEN)),
        "position_ids": np.arange(WINDOW, 2 * WINDOW), "current_pos": np.array([WINDOW]),
    }
    package.run("prefill", given, states)
    for state in states.values():
        assert state[:, :, :WINDOW].all() and not state[:, :, WINDOW:].any()
    assert "prefill_dynamic_slice" not in parameters(fixture)


@pytest.mark.parametrize(
    ("fixture", "package", "sizes", "is_argmax"),
    [
        ("qwen3-monolithic", "qwen_monolithic_full", (65, 65, 65, 64), False),
        ("qwen3-monolithic-argmax", "qwen_monolithic_full", (65, 65, 65, 64), True),
        ("llama-monolithic", "llama_monolithic_full", (33, 33, 33, 32, 32, 32, 32, 32), False),
    ],
)
def test_monolithic(fixture, package, sizes, is_argmax):
    found = functions(fixture, package)
    assert set(found) == {"infer", "prefill"}
    best = argmax(len(sizes)) if is_argmax else logits(1, *sizes)
    check(found["infer"], inputs(1, ids=True), best, [CACHE])
    # ANEMLL's `prefill` gives logits even where `infer` tells the best.
    check(found["prefill"], inputs(WINDOW, ids=True), logits(WINDOW, *sizes), [CACHE])
    assert parameters(fixture)["monolithic_model"] == f"{package}.mlmodelc"
    assert parameters(fixture)["functions"] == ["infer", "prefill"]
    assert parameters(fixture).get("argmax_in_model", False) == is_argmax


def test_argmax_head():
    head = functions("qwen3-argmax", "qwen_lm_head")["main"]
    check(head, [("hidden_states", HALF, (1, 1, HIDDEN))], argmax(3), [])
    assert parameters("qwen3-argmax")["lm_head_chunk_sizes"] == [90, 90, 79]


def test_recommended_sampling():
    assert parameters("qwen3-monolithic")["recommended_sampling"] == {
        "do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20,
    }
    assert "recommended_sampling" not in parameters("qwen3-argmax")


def test_without_a_window_there_is_no_prefill():
    for chunk in ("01of02", "02of02"):
        found = functions("qwen3-infer-only", f"qwen_FFN_PF_chunk_{chunk}")
        assert list(found) == ["infer"]
        check(found["infer"], inputs(1), hidden(1), [CACHE])
    assert parameters("qwen3-infer-only")["infer_only"] is True


def test_states_of_a_chunk_alone():
    for chunk in ("01of02", "02of02"):
        found = functions("qwen3-per-chunk-state", f"qwen_FFN_PF_chunk_{chunk}")
        for function in found.values():
            assert function.states == [(CACHE[0], HALF, (2, 2, CONTEXT, 16))]
    assert parameters("qwen3-per-chunk-state")["per_chunk_state"] is True


def test_a_state_may_have_more_rows_than_the_context():
    found = functions("llama", "llama_FFN_PF_chunk_01of01")
    check(found["infer"], inputs(1), hidden(1), [(CACHE[0], HALF, (4, 2, 96, 16))])


GEMMA = {"infer": 1, "infer_rotate": 1, "prefill": WINDOW, "prefill_rotate": WINDOW}
LOCAL, GLOBAL = "model_model_kv_cache_local", "model_model_kv_cache_global"


def gemma_states(local, whole):
    return [(LOCAL, HALF, (2 * local, 2, SLIDING, 16)), (GLOBAL, HALF, (2 * whole, 2, CONTEXT, 16))]


def test_gemma_has_two_caches_and_four_functions():
    for fixture, chunks in (("gemma3", 1), ("gemma3-2chunks", 2)):
        for number in range(1, chunks + 1):
            found = functions(fixture, f"gemma3_FFN_PF_chunk_{number:02}of{chunks:02}")
            assert set(found) == set(GEMMA)
            for name, size in GEMMA.items():
                rows = size if number < chunks else 1
                check(found[name], inputs(size), hidden(rows), gemma_states(2, 1))
        assert parameters(fixture)["sliding_window"] == SLIDING


def test_gemma_with_rotation_apart():
    for suffix, names in (("", {"infer", "prefill"}), ("_rot", {"infer_rotate", "prefill_rotate"})):
        found = functions("gemma3-split-rotate", f"gemma3_FFN_PF_chunk_01of01{suffix}")
        assert set(found) == names
        for name, function in found.items():
            check(function, inputs(GEMMA[name]), hidden(1), gemma_states(1, 1))
    found = parameters("gemma3-split-rotate")
    assert found["split_rotate"] is True
    assert found["pf"] == "gemma3_FFN_PF_chunk_01of01_rot.mlmodelc"


def test_monolithic_gemma_prefills_to_a_hidden_state():
    found = functions("gemma3-monolithic", "gemma3_monolithic_full")
    assert set(found) == set(GEMMA)
    for name, size in GEMMA.items():
        outputs = logits(1, 65, 65, 65, 64) if size == 1 else hidden(1)
        check(found[name], inputs(size, ids=True), outputs, gemma_states(1, 1))


def test_gemma_never_rotates_where_the_window_spans_the_context(tmp_path):
    write_checkpoint(tmp_path, GEMMA3 | {"sliding_window": 32}, 0, 16)
    arguments = ["--checkpoint", str(tmp_path), "--context", "16", "--window", "8"]
    assert main([str(tmp_path / "out"), *arguments]) == 0
    found = read_package(tmp_path / "out" / "gemma3_FFN_PF_chunk_01of01.mlpackage")
    assert set(found) == {"infer", "prefill"}
    assert found["infer"].states[0] == (LOCAL, HALF, (4, 2, 16, 16))


def test_gemma_with_a_single_cache_does_not_rotate():
    found = functions("gemma3-single-cache", "gemma3_FFN_PF_chunk_01of01")
    assert set(found) == {"infer", "prefill"}
    check(found["infer"], inputs(1), hidden(1), [(CACHE[0], HALF, (6, 2, CONTEXT, 16))])
    assert parameters("gemma3-single-cache")["single_cache"] is True


def test_qwen35_has_states_of_each_layer():
    states = {
        "01of02": {"delta_0": (1, 4, 8, 16), "delta_1": (1, 4, 8, 16),
                   "conv_0": (1, 96, 1, 32), "conv_1": (1, 96, 1, 32)},
        "02of02": {"delta_2": (1, 4, 8, 16), "conv_2": (1, 96, 1, 32),
                   "kv_key_0": (1, 2, CONTEXT, 16), "kv_val_0": (1, 2, CONTEXT, 16)},
    }
    for chunk, shapes in states.items():
        found = functions("qwen35-2chunks", f"qwen35_FFN_PF_chunk_{chunk}")
        assert list(found) == ["main"]
        wanted = [(f"model_model_{name}", HALF, shape) for name, shape in shapes.items()]
        check(found["main"], inputs(1, update_mask(1)), hidden(1), wanted)
    found = parameters("qwen35-2chunks")
    assert found["per_chunk_state"] is True and found["infer_only"] is True


@pytest.mark.parametrize(
    ("fixture", "package", "ids", "mask", "heads"),
    [
        ("apple-llama", "llama", "inputIds", "causalMask", 2),
        ("apple-mistral", "mistral", "input_ids", "causal_mask", 1),
    ],
)
def test_apple_layout(fixture, package, ids, mask, heads):
    found = functions(fixture, package)["main"]
    assert [(name, kind) for name, kind, _ in found.inputs] == [(ids, INTEGER), (mask, HALF)]
    assert [(name, kind) for name, kind, _ in found.outputs] == [("logits", HALF)]
    shape = (2, 1, heads, CONTEXT, 16)
    assert sorted(found.states) == [("keyCache", HALF, shape), ("valueCache", HALF, shape)]
    path = ROOT / fixture / f"{package}.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    described = Model_pb2.Model.FromString(path.read_bytes()).description.input
    ranges = [
        [(size.lowerBound, size.upperBound) for size in i.type.multiArrayType.shapeRange.sizeRanges]
        for i in described
    ]
    assert ranges == [[(1, 1), (1, CONTEXT)], [(1, 1), (1, 1), (1, CONTEXT), (1, CONTEXT)]]
    assert not (ROOT / fixture / "meta.yaml").exists()


def test_full_prefill_gives_every_position_for_the_head():
    fixture = ROOT / "qwen3-full-prefill"
    last = functions(fixture.name, "qwen_FFN_PF_chunk_02of02")
    check(last["prefill"], inputs(WINDOW), hidden(WINDOW), [CACHE])
    shapes = enumerated_shapes(fixture / "qwen_lm_head.mlpackage")
    assert shapes == [(1, 1, HIDDEN), (1, WINDOW, HIDDEN)]


def test_full_prefill_checks_several_tokens_at_once():
    fixture = ROOT / "qwen3-full-prefill"
    model = driver.open_model(fixture)
    prompt = json.loads((fixture / "expected.json").read_text())["prompts"][-2]
    model.start(prompt["prompt_ids"])
    draft = [prompt["prompt_ids"][-1], *prompt["next_ids"]][:WINDOW]
    outputs = model.run("prefill", draft, WINDOW)
    scores = model.head.run("main", {"hidden_states": outputs["output_hidden_states"]})
    joined = np.concatenate([scores["logits1"], scores["logits2"]], axis=-1)[0]
    assert joined.argmax(axis=-1).tolist() == prompt["next_ids"][:WINDOW]
