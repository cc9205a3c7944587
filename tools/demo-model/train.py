"""Trains the demo model on generated stories and saves it as a Hugging Face checkpoint."""

import argparse
import math
import random
import time
from pathlib import Path

import torch
from qwen3 import Qwen3, Sizes, save_checkpoint
from story import write_story
from tokenizer import END_OF_TEXT, chat_text, save_tokenizer, train_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

SEED = 20240607
TOKENIZER_STORIES = 8_000
VOCAB = 896
CONTEXT = 512
SIZES = Sizes(
    num_hidden_layers=4,
    hidden_size=128,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    intermediate_size=352,
    vocab_size=VOCAB,
    max_position_embeddings=CONTEXT,
)
STEPS = 1100
# Tokens of an update, and the length of its rows from a share of the training on: in short rows, where
# a name is among few words, the model soon finds out that names are to be copied; later it learns whole
# stories, and at last all positions.
BATCH_TOKENS = 1600
ROW_LENGTHS = ((0.0, 32), (0.3, 128), (0.8, CONTEXT))
CHAT_SHARE = 0.5
WARM_UP = 60
PEAK_RATE = 3e-3
# The matrices are small: where other programs run, more threads wait for each other.
THREADS = 1


def main():
    """Writes the checkpoint and its tokenizer into the directory given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="checkpoint directory to write")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"({STEPS})")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    rng = random.Random(SEED)
    tokenizer = learn_tokenizer(rng)
    model = Qwen3(SIZES)
    initialise(model)
    print(f"{count(model)} parameters")
    fit(model, tokenizer, rng, args.steps)
    save_checkpoint(model, args.output)
    save_tokenizer(tokenizer, args.output, CONTEXT)


def learn_tokenizer(rng: random.Random) -> Tokenizer:
    """A tokenizer of questions and stories like those trained on."""
    stories = [write_story(rng) for _ in range(TOKENIZER_STORIES)]
    return train_tokenizer([text for story in stories for text in vars(story).values()], VOCAB)


def draw_rows(tokenizer: Tokenizer, rng: random.Random, rows: int, length: int) -> Tensor:
    """Ids [rows, length + 1]: new stories, the last of a row cut off; no row begins amid a story."""
    return torch.tensor([_draw_row(tokenizer, rng, length + 1) for _ in range(rows)])


def _draw_row(tokenizer: Tokenizer, rng: random.Random, length: int) -> list[int]:
    ids: list[int] = []
    while len(ids) < length:
        story = write_story(rng)
        chat = rng.random() < CHAT_SHARE
        text = chat_text(story.question, story.text) if chat else story.text
        ids += tokenizer.encode(text + END_OF_TEXT).ids
    return ids[:length]


def initialise(model: Qwen3):
    """Small normal weights, smaller still where a layer's result joins the residual stream."""
    depth = math.sqrt(2 * model.sizes.num_hidden_layers)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            torch.nn.init.normal_(parameter, std=0.04 / depth if residual else 0.04)


def fit(model: Qwen3, tokenizer: Tokenizer, rng: random.Random, steps: int):
    """AdamW with warm-up and cosine decay."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    factors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": factors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    started = time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        length = max(row for start, row in ROW_LENGTHS if step >= start * steps)
        batch = draw_rows(tokenizer, rng, BATCH_TOKENS // length, length)
        loss = train_step(model, optimizer, batch)
        if step % 50 == 0 or step == steps - 1:
            spent = time.process_time() - started
            print(f"step {step}: loss {loss:.3f}, {spent:.0f} s of CPU time", flush=True)


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
