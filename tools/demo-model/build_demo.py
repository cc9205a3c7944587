"""Exports the trained demo model and writes the tokens to expect of it."""

import argparse
from pathlib import Path

from expected import Prompt, write_expected
from exporter import export
from prompts import cut_stories
from tokenizer import TURN_END, TURN_START
from tokenizers import Tokenizer
from train import CONTEXT, SIZES

# Around the window of 64, several windows, and as long as 32 further tokens allow.
LENGTHS = (1, 2, 63, 64, 65, 130, 200, CONTEXT - 33)
TEXTS = {
    "opening": "Once upon a time, there was a small cat named Mia.",
    "copying": "There once was a brave lion named Oscar. Oscar the lion lived by the sea.",
    "ending": (
        "Once upon a time, there was a young mouse named Leo. Leo lived by the lake. One night, Leo "
        "heard a loud rattle. He was afraid and called Hazel the hedgehog. \"Let us look together, "
        "Leo,\" said Hazel. They took a lantern and looked. It was only the rain! Hazel laughed, and "
        "Leo was not afraid anymore."
    ),
    "chat": (
        f"{TURN_START}user\nTell me a story about a rabbit named Luna.{TURN_END}\n"
        f"{TURN_START}assistant\n"
    ),
}
KEEP_LOGITS = ("opening", "length_65")
MAX_BYTES = 4 << 20


def main():
    """Writes packages, tokenizer and `expected.json`, and checks their size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="directory that train.py wrote")
    parser.add_argument("output", type=Path, help="directory to write")
    args = parser.parse_args()
    luts = ("--lut-ffn", "6", "--lut-lmhead", "6")
    export(args.checkpoint, args.output, "demo", "--context", str(CONTEXT), *luts)
    prompts = make_prompts(Tokenizer.from_file(str(args.checkpoint / "tokenizer.json")))
    write_expected(args.output / "expected.json", args.output, SIZES, prompts)
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB in {args.output}")
    if size > MAX_BYTES:
        raise SystemExit(f"error: the demo takes {size} bytes, more than {MAX_BYTES}")


def make_prompts(tokenizer: Tokenizer) -> list[Prompt]:
    """Named texts, and held-out stories cut to each length."""
    named = {name: tokenizer.encode(text).ids for name, text in TEXTS.items()}
    named |= {f"length_{length}": cut_stories(tokenizer, length) for length in LENGTHS}
    return [Prompt(name, ids, name in KEEP_LOGITS) for name, ids in named.items()]


if __name__ == "__main__":
    main()
