"""A tokenizer for models with random weights, which have no text of their own: one token per byte.

The ids follow the layout of Qwen's tokenizers: the bytes first, in the order of the characters that
stand for them (as in GPT-2's byte-level BPE), then the special tokens.
"""

import json
from pathlib import Path

from anemll_export.errors import ExportError

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, _, TURN_END = SPECIAL_TOKENS
BYTES = 256
SIZE = BYTES + len(SPECIAL_TOKENS)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def check_vocabulary(vocab: int):
    """Raises ExportError where a vocabulary is too small for every byte and the special tokens."""
    if vocab < SIZE:
        raise ExportError(
            f"a vocabulary of {vocab} is too small for the byte-level tokenizer that random weights "
            f"get, which has {SIZE} tokens; make `--vocab` at least {SIZE}, or give a `--tokenizer`"
        )


def write_tokenizer(directory: Path, context: int):
    """Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`."""
    added = {BYTES + number: _added(token) for number, token in enumerate(SPECIAL_TOKENS)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    _write(directory / "tokenizer.json", {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, **token} for number, token in added.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": False},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {character: number for number, character in enumerate(_characters())},
            "merges": [],
        },
    })
    _write(directory / "tokenizer_config.json", {
        "added_tokens_decoder": {str(number): token for number, token in added.items()},
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "model_max_length": context,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    })
    ends = [BYTES + SPECIAL_TOKENS.index(token) for token in (TURN_END, END_OF_TEXT)]
    _write(directory / "generation_config.json", {"eos_token_id": ends})


def _characters() -> list[str]:
    """The visible character of every byte, by its place in the vocabulary.

    Printable Latin-1 bytes stand for themselves; the others take the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in printable + list(range(0x100, 0x200 - len(printable)))]


def _added(content: str) -> dict:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": content, **flags, "special": True}


def _write(path: Path, value: object):
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
