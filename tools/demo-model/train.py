"""Trains the demo model on generated stories and saves it as a Hugging Face checkpoint."""

import argparse
import math
import random
import time
from pathlib import Path

import torch
from qwen3 import Qwen3, Sizes, save_checkpoint
from story import Story, write_story
from tokenizer import END_OF_TEXT, chat_text, save_tokenizer, train_tokenizer
from torch import Tensor
from torch.nn import functional

SEED = 20240607
STORIES = 24_000
VOCAB = 1024
CONTEXT = 512
SIZES = Sizes(
    num_hidden_layers=5,
    hidden_size=160,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=32,
    intermediate_size=448,
    vocab_size=VOCAB,
    max_position_embeddings=CONTEXT,
)
BATCH = 8
STEPS = 300
WARM_UP = 30
PEAK_RATE = 3e-3
THREADS = 2


def main():
    """Writes the checkpoint and its tokenizer into the directory given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="checkpoint directory to write")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"({STEPS})")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    stories = write_stories()
    tokenizer = train_tokenizer([text for story in stories for text in vars(story).values()], VOCAB)
    model = Qwen3(SIZES)
    initialise(model)
    rows = pack(tokenizer, stories)
    print(f"{len(stories)} stories, {rows.numel()} tokens, {count(model)} parameters")
    fit(model, rows, args.steps)
    save_checkpoint(model, args.output)
    save_tokenizer(tokenizer, args.output, CONTEXT)


def write_stories() -> list[Story]:
    """The training stories; the same at every run."""
    rng = random.Random(SEED)
    return [write_story(rng) for _ in range(STORIES)]


def pack(tokenizer, stories: list[Story]) -> Tensor:
    """Ids in rows of context + 1. Half of the stories stand alone, half answer a question."""
    ids = []
    for number, story in enumerate(stories):
        if number % 2:
            text = chat_text(story.question, story.text)
        else:
            text = story.text
        ids += tokenizer.encode(text + END_OF_TEXT).ids
    rows = len(ids) // (CONTEXT + 1)
    return torch.tensor(ids[: rows * (CONTEXT + 1)]).view(rows, CONTEXT + 1)


def initialise(model: Qwen3):
    """Small normal weights, smaller still where a layer's result joins the residual stream."""
    depth = math.sqrt(2 * model.sizes.num_hidden_layers)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            torch.nn.init.normal_(parameter, std=0.04 / depth if residual else 0.04)


def fit(model: Qwen3, rows: Tensor, steps: int):
    """AdamW with warm-up and cosine decay."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    factors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": factors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    order = torch.randperm(len(rows))
    started = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        picks = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(rows)]
        loss = train_step(model, optimizer, rows[picks])
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss:.3f}, {time.time() - started:.0f} s", flush=True)


def train_step(model: Qwen3, optimizer, batch: Tensor) -> float:
    """One update; returns the mean loss per token before it."""
    logits = model(batch[:, :-1])
    loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def rate(step: int, steps: int) -> float:
    """Learning rate: linear warm-up, then a cosine down to a twentieth of the peak."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return PEAK_RATE * (0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2)


def count(model: Qwen3) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
