"""The tokenizer of random models, read by the `tokenizers` library."""

import json

import pytest
from anemll_export.bytes_tokenizer import write_tokenizer
from anemll_export.cli import main
from tokenizers import Tokenizer

RANDOM = ("--random", "--layers", "1", "--hidden", "16", "--heads", "2", "--kv-heads", "1",
          "--head-dim", "8", "--ffn", "32", "--context", "32", "--window", "8")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory with the tokenizer's files."""
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, 32)
    return directory


@pytest.mark.parametrize("text", ["hello", "Two  words\r\n\ttabbed", "naïve — 火 🦊", "\x00\x7f\u00a0\u00ad"])
def test_text_becomes_one_token_per_byte_and_back(written, text):
    tokenizer = Tokenizer.from_file(str(written / "tokenizer.json"))
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    assert max(ids) < 256
    assert tokenizer.decode(ids) == text


def test_special_tokens_follow_the_bytes(written):
    tokenizer = Tokenizer.from_file(str(written / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 259
    assert sorted(tokenizer.get_vocab(with_added_tokens=False).values()) == list(range(256))
    assert tokenizer.encode("<|im_start|>a<|im_end|><|endoftext|>").ids == [
        257, tokenizer.token_to_id("a"), 258, 256,
    ]
    added = json.loads((written / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {number: token["content"] for number, token in added.items()} == {
        "256": "<|endoftext|>", "257": "<|im_start|>", "258": "<|im_end|>",
    }
    assert json.loads((written / "generation_config.json").read_text()) == {"eos_token_id": [258, 256]}


def test_random_weights_come_with_the_tokenizer(tmp_path):
    assert main([str(tmp_path), *RANDOM, "--vocab", "259"]) == 0
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 259
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 32


def test_a_vocabulary_without_room_for_the_bytes_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "out"), *RANDOM, "--vocab", "258"]) == 1
    message = capsys.readouterr().err
    assert "258" in message and "259" in message
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_given_is_used_instead(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    arguments = [str(tmp_path / "out"), *RANDOM, "--vocab", "64", "--tokenizer", str(tmp_path / "in")]
    assert main(arguments) == 0
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert not (tmp_path / "out" / "generation_config.json").exists()
