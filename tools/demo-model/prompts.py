"""Prompts of exact lengths."""

import random

from story import write_story
from tokenizer import END_OF_TEXT
from tokenizers import Tokenizer

HELD_OUT_SEED = 7
SHORTEST_STORY = 60


def cut_stories(tokenizer: Tokenizer, length: int) -> list[int]:
    """The first `length` ids of stories not trained on, such that their text gives the same ids."""
    rng = random.Random(HELD_OUT_SEED + length)
    while True:
        stories = [write_story(rng).text for _ in range(length // SHORTEST_STORY + 1)]
        ids = tokenizer.encode(END_OF_TEXT.join(stories)).ids[:length]
        text = tokenizer.decode(ids, skip_special_tokens=False)
        if len(ids) == length and tokenizer.encode(text).ids == ids:
            return ids
