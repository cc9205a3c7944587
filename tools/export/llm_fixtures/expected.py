"""Expected tokens: what a reference says after prompts that make it easy to notice mistakes.

A prompt is kept only if its greedy tokens are clear (the two largest logits well apart at every
step), differ among themselves, and depend on the prompt's first and middle token: a cache, mask or
position that is wrong anywhere then shows in the tokens.
"""

import json
import random
import string
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

STEPS = 12
# Two likeliest tokens closer than this may swap places under fp16 rounding.
ROBUST_MARGIN = 0.1
CLEAR_MARGIN = 0.4
TOP = 5
CANDIDATES, ROUNDS = 16, 24
PROCEDURE = (
    "float32 Hugging Face model with the weights of these packages, dequantized; greedy, raw prompt "
    "ids, generation not stopped at an end token; margins are the distance of the two largest logits "
    "per step, robust_prefix_len the steps before the first margin under 0.1; prompts are chosen so "
    "that the tokens depend on the prompt's first and middle token"
)


@dataclass(frozen=True)
class Continuation:
    """Greedy tokens after a prompt, with all logits of each step [steps, vocab]."""

    ids: list[int]
    tokens: list[int]
    logits: torch.Tensor

    @property
    def margins(self) -> list[float]:
        """The distance of the two largest logits of each step."""
        best = self.logits.topk(2).values
        return (best[:, 0] - best[:, 1]).tolist()


@torch.no_grad()
def greedy(model, prompts: list[list[int]], steps: int) -> list[Continuation]:
    """Continues prompts of one length; the whole text is run anew for every token."""
    ids, found = torch.tensor(prompts), []
    for _ in range(steps):
        logits = model(ids, use_cache=False).logits[:, -1]
        found.append(logits)
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), dim=1)
    length, logits = len(prompts[0]), torch.stack(found, dim=1)
    return [
        Continuation(prompt, row[length:].tolist(), each)
        for prompt, row, each in zip(prompts, ids, logits)
    ]


def write_expected(directory: Path, model, lengths: list[int], context: int):
    """Writes `expected.json` beside an export; `model` is its reference."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ends = json.loads((directory / "generation_config.json").read_text())["eos_token_id"]
    entries = [_entry(tokenizer, choose(model, tokenizer, n, min(STEPS, context - n))) for n in lengths]
    head = {"procedure": PROCEDURE, "steps": STEPS, "eos_token_id": ends}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    text = "\n".join(["{", *lines, '"prompts": [', body, "]", "}"]) + "\n"
    (directory / "expected.json").write_text(text, encoding="utf-8")


def choose(model, tokenizer: Tokenizer, length: int, steps: int) -> Continuation:
    """The continuation of the first good prompt of that length; SystemExit where none is found."""
    rng = random.Random(length)
    for _ in range(ROUNDS):
        texts = ["".join(rng.choices(string.ascii_letters + " ", k=length)) for _ in range(CANDIDATES)]
        found = greedy(model, [tokenizer.encode(text).ids for text in texts], steps)
        for candidate in filter(is_telling, found):
            places = sorted({0, length // 2})
            changed = greedy(model, [_changed(candidate.ids, place) for place in places], steps)
            if candidate.tokens not in [run.tokens for run in changed]:
                return candidate
    raise SystemExit(f"error: no telling prompt of {length} tokens; choose another seed")


def is_telling(candidate: Continuation) -> bool:
    """Whether the tokens are clear and do not just repeat."""
    varied = len(set(candidate.tokens)) >= min(len(candidate.tokens), 5)
    return varied and min(candidate.margins) >= CLEAR_MARGIN


def _changed(ids: list[int], place: int) -> list[int]:
    """The ids with another letter in one place."""
    return [*ids[:place], ids[place] ^ 1, *ids[place + 1 :]]


def _entry(tokenizer: Tokenizer, found: Continuation) -> dict:
    small = (step for step, margin in enumerate(found.margins) if margin < ROBUST_MARGIN)
    best = found.logits[0].topk(TOP)
    return {
        "name": f"length_{len(found.ids)}",
        "prompt": tokenizer.decode(found.ids, skip_special_tokens=False),
        "n_prompt": len(found.ids),
        "prompt_ids": found.ids,
        "next_ids": found.tokens,
        "text": tokenizer.decode(found.tokens, skip_special_tokens=False),
        "margins": [round(margin, 4) for margin in found.margins],
        "robust_prefix_len": next(small, len(found.tokens)),
        "top5_first": [[i, round(v, 5)] for i, v in zip(best.indices.tolist(), best.values.tolist())],
    }
