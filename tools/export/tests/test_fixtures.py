"""The fixtures, interpreted in NumPy, say what Hugging Face's models said with the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from llm_fixtures import driver
from llm_fixtures.cases import FIXTURES
from llm_fixtures.check import mismatches
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[3] / "fixtures" / "llm"
each_fixture = pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.name)


def prompts(name):
    return json.loads((ROOT / name / "expected.json").read_text(encoding="utf-8"))["prompts"]


@each_fixture
def test_interpreted_tokens_are_the_expected_ones(fixture):
    assert mismatches(ROOT / fixture.name) == []


@each_fixture
def test_prompts_are_of_all_lengths_and_what_the_tokenizer_makes_of_their_text(fixture):
    tokenizer = Tokenizer.from_file(str(ROOT / fixture.name / "tokenizer.json"))
    found = prompts(fixture.name)
    assert [prompt["n_prompt"] for prompt in found] == list(fixture.lengths)
    for prompt in found:
        assert tokenizer.encode(prompt["prompt"]).ids == prompt["prompt_ids"]
        assert len(prompt["prompt_ids"]) == prompt["n_prompt"]


@each_fixture
def test_expected_tokens_are_clear_and_varied(fixture):
    for prompt in prompts(fixture.name):
        steps = min(12, 64 - prompt["n_prompt"])
        assert prompt["robust_prefix_len"] == len(prompt["next_ids"]) == steps
        assert len(set(prompt["next_ids"])) >= min(steps, 5)


@each_fixture
def test_packages_are_small(fixture):
    files = [path for path in (ROOT / fixture.name).rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 420_000


def forgetful(run):
    """Runs a function after clearing the first position of every cache."""

    def with_loss(self, name, inputs, states=None):
        for state in (states or {}).values():
            state[..., 0, :] = 0
        return run(self, name, inputs, states)

    return with_loss


def displaced(run):
    """Runs a function with positions that lag by one."""

    def elsewhere(self, name, inputs, states=None):
        moved = {key: np.maximum(inputs[key] - 1, 0) for key in ("position_ids", "current_pos") if key in inputs}
        return run(self, name, inputs | moved, states)

    return elsewhere


def blind(run):
    """Runs a function with masks that hide the first position."""

    def hidden(self, name, inputs, states=None):
        masks = {key: inputs[key].copy() for key in inputs if key.startswith("causal")}
        for mask in masks.values():
            mask[..., :1] -= 1e4
        return run(self, name, inputs | masks, states)

    return hidden


@pytest.mark.parametrize("fault", [forgetful, displaced, blind])
@pytest.mark.parametrize("name", ["qwen3-3chunks-lut6", "llama", "qwen3-monolithic-argmax", "gemma3"])
def test_mistakes_show_in_the_tokens(name, fault, monkeypatch):
    monkeypatch.setattr(driver.Package, "run", fault(driver.Package.run))
    assert mismatches(ROOT / name, longest=30)


def test_a_prompt_depends_on_its_first_token():
    for name in ("qwen3-lut4", "apple-llama", "qwen35-2chunks", "gemma3-split-rotate"):
        prompt = prompts(name)[-2]
        model = driver.open_model(ROOT / name)
        ids = [prompt["prompt_ids"][0] ^ 1, *prompt["prompt_ids"][1:]]
        model.start(ids)
        tokens = ids[-1:]
        for _ in prompt["next_ids"]:
            tokens.append(model.next(tokens[-1]))
        assert tokens[1:] != prompt["next_ids"], name
