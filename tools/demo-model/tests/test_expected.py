"""The exported packages, interpreted, say what `expected.json` expects of them."""

import json
from pathlib import Path

import exporter  # noqa: F401  (makes the export tool importable)
import numpy as np
import pytest
from llm_fixtures.interpreter import Package
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "crates" / "candle-coreml-cli" / "demo"
MODELS = [
    ROOT / "fixtures" / "llm" / "two-chunks-fp16",
    ROOT / "fixtures" / "llm" / "window-1",
    ROOT / "fixtures" / "llm" / "lut8-embeddings",
    DEMO,
]
# As long as an interpreter of this kind is pleasant to wait for.
LONGEST_PROMPT = 70
STEPS = 8


class Model:
    """Drives a model's packages as ANEMLL's hosts do: windows of the prompt, then single tokens."""

    def __init__(self, directory: Path):
        self._embeddings = Package(next(directory.glob("*_embeddings*.mlpackage")))
        self._chunks = [Package(path) for path in sorted(directory.glob("*_FFN_PF*.mlpackage"))]
        self._head = Package(next(directory.glob("*_lm_head*.mlpackage")))
        parameters = (directory / "meta.yaml").read_text().split("parameters:")[1].split()
        self._context = int(parameters[parameters.index("context_length:") + 1])
        self._window = int(parameters[parameters.index("batch_size:") + 1])

    def greedy(self, ids, steps, cache_shape):
        """Logits of each step after `ids`."""
        states = {"model_model_kv_cache_0": np.zeros(cache_shape, np.float32)}
        for begin in range(0, len(ids), self._window):
            window = ids[begin : begin + self._window]
            function = "prefill" if self._window > 1 else "infer"
            self._pass(function, window + [0] * (self._window - len(window)), begin, states)
        ids, found = list(ids), []
        for _ in range(steps):
            hidden = self._pass("infer", ids[-1:], len(ids) - 1, states)
            parts = self._head.run("main", {"hidden_states": hidden})
            logits = [parts[f"logits{number}"] for number in range(1, len(parts) + 1)]
            found.append(np.concatenate(logits, axis=-1).ravel())
            ids.append(int(found[-1].argmax()))
        return found

    def _pass(self, function, ids, position, states):
        rows = np.arange(position, position + len(ids))
        visible = np.arange(self._context) <= rows[:, None]
        inputs = {
            "position_ids": rows.astype(np.int32),
            "causal_mask": np.where(visible, 0, -np.inf).astype(np.float32)[None, None],
            "current_pos": np.array([position], np.int32),
        }
        ids = np.array([ids], np.int32)
        hidden = self._embeddings.run("main", {"input_ids": ids})["hidden_states"]
        for chunk in self._chunks:
            outputs = chunk.run(function, inputs | {"hidden_states": hidden}, states)
            hidden = outputs["output_hidden_states"]
        return hidden


def cache_shape(directory):
    from anemll_export.readback import read_package

    chunk = next(directory.glob("*_FFN_PF*.mlpackage"))
    return read_package(chunk)["infer"].states[0][2]


@pytest.mark.parametrize("directory", MODELS, ids=lambda path: path.name)
def test_interpreted_tokens_are_the_expected_ones(directory):
    model, shape = Model(directory), cache_shape(directory)
    expected = json.loads((directory / "expected.json").read_text())
    for prompt in expected["prompts"]:
        if prompt["n_prompt"] > LONGEST_PROMPT:
            continue
        steps = model.greedy(prompt["prompt_ids"], STEPS, shape)
        sure = min(prompt["robust_prefix_len"], STEPS)
        found = [int(logits.argmax()) for logits in steps]
        assert found[:sure] == prompt["next_ids"][:sure], prompt["name"]
        for token, logit in prompt["top5_first"]:
            assert steps[0][token] == pytest.approx(logit, abs=0.05), prompt["name"]
        if "first_logits" in prompt:
            np.testing.assert_allclose(steps[0], prompt["first_logits"], atol=0.05)


@pytest.mark.parametrize("directory", MODELS, ids=lambda path: path.name)
def test_prompts_are_what_the_tokenizer_makes_of_their_text(directory):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    for prompt in json.loads((directory / "expected.json").read_text())["prompts"]:
        assert tokenizer.encode(prompt["prompt"]).ids == prompt["prompt_ids"]
        assert len(prompt["prompt_ids"]) == prompt["n_prompt"]


@pytest.mark.parametrize("directory", MODELS, ids=lambda path: path.name)
def test_greedy_tokens_vary(directory):
    for prompt in json.loads((directory / "expected.json").read_text())["prompts"]:
        assert len(set(prompt["next_ids"])) > 5, prompt["name"]


def test_demo_is_small():
    files = [path for path in DEMO.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 4 << 20


def test_demo_ends_its_stories():
    expected = json.loads((DEMO / "expected.json").read_text())
    ending = next(p for p in expected["prompts"] if p["name"] == "ending")
    assert set(ending["next_ids"]) & set(expected["eos_token_id"])
