"""Expected tokens: what the PyTorch model says with the very weights that an export holds."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from exporter import checkpoint_weights, model_config
from qwen3 import Qwen3, Sizes
from tokenizers import Tokenizer
from torch import Tensor

STEPS = 32
# Two likeliest tokens closer than this may swap places under fp16 rounding.
ROBUST_MARGIN = 0.1
TOP = 5
PROCEDURE = (
    "float32 PyTorch model with the weights of these packages, dequantized; greedy, raw prompt ids, "
    "generation not stopped at an end token; margins are the distance of the two largest logits per "
    "step, robust_prefix_len the steps before the first margin under 0.1"
)


@dataclass(frozen=True)
class Prompt:
    """A prompt as ids; whether all logits of its first step are kept as well."""

    name: str
    ids: list[int]
    keep_logits: bool = False


def load_reference(export: Path, sizes: Sizes) -> Qwen3:
    """The model with an export's own weights; the LM head has its own, as palettized apart."""
    model = Qwen3(replace(sizes, tie_word_embeddings=False))
    weights = checkpoint_weights(export, model_config(sizes))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model.eval()


def write_expected(path: Path, export: Path, sizes: Sizes, prompts: list[Prompt]):
    """Runs every prompt through the reference and writes the results as JSON."""
    model = load_reference(export, sizes)
    tokenizer = Tokenizer.from_file(str(export / "tokenizer.json"))
    ends = json.loads((export / "generation_config.json").read_text())["eos_token_id"]
    entries = [_continue(model, tokenizer, prompt) for prompt in prompts]
    head = {"procedure": PROCEDURE, "steps": STEPS, "eos_token_id": ends}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    path.write_text("\n".join(["{", *lines, '"prompts": [', body, "]", "}"]) + "\n", encoding="utf-8")


def _continue(model: Qwen3, tokenizer: Tokenizer, prompt: Prompt) -> dict:
    steps = greedy(model, prompt.ids)
    next_ids = [int(logits.argmax()) for logits in steps]
    margins = [_margin(logits) for logits in steps]
    small = (step for step, margin in enumerate(margins) if margin < ROBUST_MARGIN)
    entry = {
        "name": prompt.name,
        "prompt": tokenizer.decode(prompt.ids, skip_special_tokens=False),
        "n_prompt": len(prompt.ids),
        "prompt_ids": prompt.ids,
        "next_ids": next_ids,
        "text": tokenizer.decode(next_ids, skip_special_tokens=False),
        "margins": [round(margin, 4) for margin in margins],
        "robust_prefix_len": next(small, STEPS),
        "top5_first": _top(steps[0]),
    }
    if prompt.keep_logits:
        entry["first_logits"] = [round(value, 5) for value in steps[0].tolist()]
    return entry


@torch.no_grad()
def greedy(model: Qwen3, ids: list[int]) -> list[Tensor]:
    """Logits [vocab] of each of the steps that follow `ids`, the likeliest token going on."""
    ids = list(ids)
    steps = []
    for _ in range(STEPS):
        logits = model(torch.tensor([ids]))[0, -1]
        steps.append(logits)
        ids.append(int(logits.argmax()))
    return steps


def _margin(logits: Tensor) -> float:
    first, second = logits.topk(2).values.tolist()
    return first - second


def _top(logits: Tensor) -> list[list]:
    values, ids = logits.topk(TOP)
    return [[token, round(value, 5)] for token, value in zip(ids.tolist(), values.tolist())]
