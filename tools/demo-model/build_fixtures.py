"""Makes very small models with random weights, their exports and the tokens to expect of them."""

import argparse
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from expected import Prompt, write_expected
from exporter import export
from prompts import cut_stories
from qwen3 import Qwen3, Sizes, save_checkpoint
from story import write_story
from tokenizer import save_tokenizer, train_tokenizer

CONTEXT = 64
# Around the window of 16, and as long as 32 further tokens allow.
LENGTHS = (1, 2, 15, 16, 17, CONTEXT - 33)
KEEP_LOGITS = (2, 17)
# Spread of the logits: wide enough that the two largest are seldom close.
LOGIT_SPREAD = 6.0


@dataclass(frozen=True)
class Fixture:
    """One fixture: sizes that differ, the seed of its weights and the choices of its export."""

    name: str
    layers: int
    vocab: int
    seed: int
    options: tuple[str, ...]


FIXTURES = (
    Fixture("two-chunks-fp16", 2, 320, 19, ("--window", "16", "--chunks", "2")),
    Fixture("window-1", 2, 320, 14, ("--window", "1", "--head-parts", "8")),
    # 400 tokens do not divide into 16 parts of whole groups: the parts have unequal sizes.
    Fixture("lut8-embeddings", 2, 400, 29, (
        "--window", "16", "--lut-embeddings", "8", "--lut-ffn", "4", "--lut-lmhead", "6",
    )),
)


def main():
    """Writes every fixture into a directory of its name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory that holds the fixtures")
    args = parser.parse_args()
    for fixture in FIXTURES:
        build(fixture, args.output / fixture.name)


def build(fixture: Fixture, output: Path):
    """Makes one fixture."""
    sizes = Sizes(
        num_hidden_layers=fixture.layers,
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        vocab_size=fixture.vocab,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )
    rng = random.Random(fixture.seed)
    tokenizer = train_tokenizer([write_story(rng).text for _ in range(200)], fixture.vocab)
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory)
        save_checkpoint(random_model(sizes, fixture.seed), checkpoint)
        save_tokenizer(tokenizer, checkpoint, CONTEXT)
        export(checkpoint, output, fixture.name, "--context", str(CONTEXT), *fixture.options)
    prompts = [
        Prompt(f"length_{length}", cut_stories(tokenizer, length), length in KEEP_LOGITS)
        for length in LENGTHS
    ]
    write_expected(output / "expected.json", output, sizes, prompts)


def random_model(sizes: Sizes, seed: int) -> Qwen3:
    """Weights scaled by fan-in, so that every layer matters and no activation grows or fades."""
    generator = torch.Generator().manual_seed(seed)
    model = Qwen3(sizes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.1 * values)
            elif name == "model.embed_tokens.weight":
                parameter.copy_(values)
            else:
                spread = LOGIT_SPREAD if name == "lm_head.weight" else 1.0
                parameter.copy_(values * spread * parameter.shape[1] ** -0.5)
    return model


if __name__ == "__main__":
    main()
