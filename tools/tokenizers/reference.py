"""Writes fixtures/tokenizers/cases.json: tokenizers, files beside them, texts, and the ids that
transformers 4 gives.

    pip install "transformers==4.57.6"
    python tools/tokenizers/reference.py
"""

import itertools
import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import transformers  # noqa: E402
from tokenizers.pre_tokenizers import ByteLevel  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

FILE = Path(__file__).parents[2] / "fixtures" / "tokenizers" / "cases.json"
SPECIAL = ["<s>", "</s>", "<bos>", "<|endoftext|>"]


def added(content, id):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, "special": True} | flags


def tokenizer(vocabulary, added_tokens, pre_tokenizer, decoder):
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens,
        "normalizer": None, "pre_tokenizer": pre_tokenizer, "post_processor": None,
        "decoder": decoder,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "byte_fallback": False, "vocab": vocabulary, "merges": []},
    }


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPACES = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
PIECES = SPECIAL + ["\u2581"] + list("abcdefghijklmnopqrstuvwxyz<>/")
TOKENIZERS = {
    # One token a byte.
    "bytes": tokenizer(
        {character: id for id, character in enumerate(sorted(ByteLevel.alphabet()))},
        [added(content, 256 + number) for number, content in enumerate(SPECIAL)], BYTES, BYTES),
    # Special tokens are in the vocabulary, and not among the added ones.
    "pieces": tokenizer({piece: id for id, piece in enumerate(PIECES)}, [], SPACES, SPACES),
}


def processor(*pieces):
    """A post-processor for `bytes`: special tokens around the text."""
    id = {content: 256 + number for number, content in enumerate(SPECIAL)}

    def piece(name):
        kind = "Sequence" if name in ("A", "B") else "SpecialToken"
        return {kind: {"id": name, "type_id": 0}}

    return {
        "type": "TemplateProcessing",
        "single": [piece(name) for name in pieces],
        "pair": [piece(name) for name in (*pieces, "B")],
        "special_tokens": {name: {"id": name, "ids": [id[name]], "tokens": [name]}
                           for name in pieces if name != "A"},
    }


PROCESSORS = {"begin": processor("<s>", "A"), "both": processor("<s>", "A", "</s>"), "bytes": BYTES}
CLASSES = ["LlamaTokenizerFast", "LlamaTokenizer", "CodeLlamaTokenizerFast", "GemmaTokenizerFast",
           "GemmaTokenizer", "CohereTokenizerFast", "GPTNeoXTokenizerFast",
           "PreTrainedTokenizerFast", "Qwen2TokenizerFast", "GPT2TokenizerFast",
           "BloomTokenizerFast"]
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
EXTRA = added("<extra>", 260) | {"normalized": True, "special": False}
STRIPPING = added("<wide>", 261) | {"lstrip": True, "rstrip": True}


def decoder(*tokens):
    return {str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in tokens}


def classes():
    """Who adds begin and end tokens."""
    flags = itertools.product([None, True, False], [None, True, False])
    for name, (begin, end) in itertools.product(CLASSES, flags):
        config = {"tokenizer_class": name} | NAMES
        config |= {key: value for key, value in
                   (("add_bos_token", begin), ("add_eos_token", end)) if value is not None}
        for processor in (None, "begin", "both", "bytes"):
            yield "bytes", processor, {"tokenizer_config.json": config}, "hi you"


def others():
    """Everything else."""
    def config(**settings):
        return {"tokenizer_config.json": settings}

    # What the class has where no token is named, and names in objects.
    yield "bytes", None, config(tokenizer_class="LlamaTokenizerFast", add_eos_token=True), "a"
    yield "bytes", "begin", config(tokenizer_class="GemmaTokenizerFast"), "a"
    yield "bytes", "begin", config(tokenizer_class="GPTNeoXTokenizerFast", add_bos_token=True), "a"
    yield "bytes", None, config(tokenizer_class="LlamaTokenizer", bos_token=added("<bos>", 258)
                                | {"__type": "AddedToken"}), "a"
    yield "bytes", "both", config(tokenizer_class="LlamaTokenizer", add_bos_token=None), "a"
    # Where the class is named elsewhere.
    for settings in ({"tokenizer_class": "LlamaTokenizer", "model_type": "qwen3"},
                     {"model_type": "llama"}, {"model_type": "gemma2"}, {"model_type": "gpt_neox"},
                     {"model_type": "qwen2"}, {"model_type": "mistral"}):
        yield "bytes", "both", config(**NAMES) | {"config.json": settings}, "a"
    # Tokens that `tokenizer.json` lacks.
    for text in ("a<extra>b", "a <wide> b", "<wide><extra>"):
        yield "bytes", None, config(added_tokens_decoder=decoder(STRIPPING, EXTRA)), text
    yield "bytes", None, {"added_tokens.json": {"<two>": 261, "<one>": 260}}, "<one><two>"
    yield "bytes", None, config(
        added_tokens_decoder=decoder(EXTRA)) | {"added_tokens.json": {"<one>": 260}}, "<one><extra>"
    # Which token begins a text.
    files = config(tokenizer_class="LlamaTokenizer", bos_token="<s>")
    yield "bytes", None, files | {"special_tokens_map.json": {"bos_token": "<bos>"}}, "a"
    files = config(tokenizer_class="LlamaTokenizer", bos_token="<s>", added_tokens_decoder={})
    yield "bytes", None, files | {"special_tokens_map.json": {"bos_token": "<bos>"}}, "a"
    # Special tokens that are not among the added ones, in a text.
    for name in ("PreTrainedTokenizerFast", "LlamaTokenizer"):
        yield "pieces", None, config(tokenizer_class=name, **NAMES), "a</s>b c"
        yield "pieces", None, config(
            tokenizer_class=name, additional_special_tokens=["<bos>"], **NAMES), "a<bos>b<x>"
    yield "bytes", None, config(split_special_tokens=True), "a<s>"
    # A space in front.
    for space in (True, False):
        yield "bytes", None, config(
            tokenizer_class="GPT2TokenizerFast", add_prefix_space=space), "hi you"
    # What changes no id.
    yield "pieces", None, config(
        tokenizer_class="PreTrainedTokenizerFast", clean_up_tokenization_spaces=True, legacy=True,
        model_max_length=2, add_prefix_space=False), "a b"


def ids(name, processor, files, text):
    tokenizer = TOKENIZERS[name] | {"post_processor": PROCESSORS.get(processor)}
    # Without a type, no class is found where none is named.
    files = {"config.json": {"model_type": "qwen3"}, "tokenizer_config.json": {}} | files
    with tempfile.TemporaryDirectory() as directory:
        for file, json_ in (files | {"tokenizer.json": tokenizer}).items():
            Path(directory, file).write_text(json.dumps(json_))
        return AutoTokenizer.from_pretrained(directory)(text)["input_ids"]


def main():
    assert transformers.__version__.startswith("4."), transformers.__version__
    cases = [
        {"tokenizer": name, "post_processor": processor, "files": files, "text": text,
         "ids": ids(name, processor, files, text)}
        for name, processor, files, text in itertools.chain(classes(), others())
    ]
    lines = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(f'{{"tokenizers": {json.dumps(TOKENIZERS)},\n"post_processors": '
                    f'{json.dumps(PROCESSORS)},\n"cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
