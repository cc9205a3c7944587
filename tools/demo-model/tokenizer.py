"""A byte-level BPE tokenizer of Qwen's kind, trained on the demo's own stories."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

# Words with at most one leading sign or space, single digits, runs of signs, line breaks, spaces.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: list[str], vocab: int) -> Tokenizer:
    """Trains to exactly `vocab` tokens, the special ones last; raises ValueError on too little text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    if tokenizer.get_vocab_size() != vocab:
        raise ValueError(f"the text gives {tokenizer.get_vocab_size()} tokens, not {vocab}")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path, context: int):
    """Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`."""
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    ends = [tokenizer.token_to_id(token) for token in (TURN_END, END_OF_TEXT)]
    write_json(directory / "generation_config.json", {"eos_token_id": ends})
    write_json(directory / "tokenizer_config.json", {
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): _added_token(token) for token in SPECIAL_TOKENS
        },
        "additional_special_tokens": [TURN_START, TURN_END],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "model_max_length": context,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    })


def chat_text(question: str, answer: str) -> str:
    """One exchange as the chat template writes it."""
    return (
        f"{TURN_START}user\n{question}{TURN_END}\n{TURN_START}assistant\n{answer}{TURN_END}\n"
    )


def write_json(path: Path, value: object):
    """Writes `value` indented, with a final line break."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _added_token(content: str) -> dict:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": content, **flags, "special": True}
