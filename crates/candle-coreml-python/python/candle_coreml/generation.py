"""What text generation takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt

from ._native import CancelToken

__all__ = [
    "ChooseToken",
    "Generation",
    "GenerationOptions",
    "LogProbability",
    "Timings",
    "Token",
    "TokenLogProbabilities",
    "Usage",
]

ChooseToken = Callable[[npt.NDArray[np.float32], Sequence[int], Sequence[int]], int]
"""Chooses the next token: is called with the model's logits, one float for each token of the vocabulary, with
the ids of the prompt and with those generated so far, and gives an id."""


class GenerationOptions(TypedDict, total=False):
    """How to choose tokens and when to stop: the keyword arguments of `generate`, `stream`, `chat` and
    `chat_stream`. None, and what is not given, is the default: the most likely token always, 256 at most.

    Where a name is that of a setting of Hugging Face's `generate`, so is the meaning; logits go through the
    stages in the same order."""

    recommended: bool
    """Begins with what the makers recommend, `LanguageModel.recommended`; what is given goes first."""
    max_tokens: int | None
    """The most tokens to generate; 256 unless `max_length` is given."""
    max_length: int | None
    """The most tokens of prompt and text together."""
    min_tokens: int | None
    """The model's end tokens can't be chosen before there are so many tokens."""
    min_length: int | None
    """The same for prompt and text together."""
    temperature: float | None
    """Divides the logits before sampling; 0, the default, takes the most likely token."""
    top_k: int | None
    """Samples among so many most likely tokens only."""
    top_p: float | None
    """Samples among the fewest most likely tokens whose probabilities reach this sum."""
    min_p: float | None
    """Samples among tokens at least this share as likely as the most likely one."""
    top_h: float | None
    """Samples among the most likely tokens that hold up to this share of the entropy."""
    typical_p: float | None
    """Samples among the most typical tokens whose probabilities reach this sum."""
    epsilon_cutoff: float | None
    """Samples among tokens of at least this probability."""
    eta_cutoff: float | None
    """The same, with a smaller probability at high entropy."""
    repetition_penalty: float | None
    """Makes tokens of prompt and text less likely (above 1) or more (below)."""
    repetition_window: int | None
    """How many last tokens the repetition penalty looks at."""
    encoder_repetition_penalty: float | None
    """Makes tokens of the prompt more likely (above 1) or less (below)."""
    no_repeat_ngram_size: int | None
    """So many tokens in a row occur only once."""
    encoder_no_repeat_ngram_size: int | None
    """So many tokens in a row of the prompt do not occur in the text."""
    presence_penalty: float | None
    """Is taken from the logits of generated tokens."""
    frequency_penalty: float | None
    """Is taken from the logit of a generated token for each time that it occurred."""
    logit_bias: Mapping[int, float] | None
    """Is added to the logits of these tokens; `-inf` forbids one."""
    sequence_bias: Mapping[tuple[int, ...], float] | None
    """Is added to the logit of a sequence's last token where the others came before it."""
    begin_suppress_tokens: Sequence[int] | None
    """Tokens that can't be the first one of the text."""
    forced_bos_token: int | None
    """The first token behind a prompt of a single one."""
    forced_eos_tokens: Sequence[int] | None
    """One of these is the last token that the budget allows."""
    exponential_decay_length_penalty: tuple[int, float] | None
    """From which token on, and by which factor, end tokens become more likely."""
    seed: int | None
    """The same seed gives the same tokens."""
    ignore_eos: bool | None
    """Goes on after an end token of the model."""
    stop: str | Sequence[str] | None
    """Texts that end the generated text before them."""
    stop_ids: Sequence[int] | None
    """Tokens that end the text, besides the model's own."""
    logprobs: int | None
    """Tells each token's log-probability, and those of so many most likely tokens."""
    overflow: Literal["stop", "error", "shift"] | None
    """When the context is full the text ends, or that is an error, or earlier text is forgotten."""
    keep: int | None
    """Tokens at the beginning that `overflow="shift"` does not forget."""
    speculation: Literal["auto", "on", "off"] | None
    """Whether tokens are guessed from earlier text and checked several at once."""
    cancel: CancelToken | None
    """Ends the text from another thread; it is then what came so far, and `finish_reason` is `cancelled`."""


@dataclass(frozen=True)
class LogProbability:
    """How likely a token was, by the model's own logits: before bias, penalties and temperature."""

    id: int
    text: str
    """Its text; part of a character is shown as a replacement character."""
    bytes: bytes
    logprob: float
    """The natural logarithm of its probability; `-inf` for a token that the model rules out."""


@dataclass(frozen=True)
class TokenLogProbabilities:
    """Log-probabilities in one token's place."""

    chosen: LogProbability
    top: list[LogProbability]
    """The most likely tokens, the most likely one first."""


@dataclass(frozen=True)
class Token:
    """One generated token."""

    id: int
    text: str
    """The text that it completes: whole characters, without special tokens. Empty while the bytes of a
    character are still coming, or the text may be the beginning of a stop string."""
    logprobs: TokenLogProbabilities | None = None


@dataclass(frozen=True)
class Usage:
    """Counts of tokens."""

    prompt_tokens: int
    reused_tokens: int
    """Tokens of the prompt that the session's cache held already."""
    prefilled_tokens: int
    """Tokens of the prompt that were run now."""
    generated_tokens: int
    drafted_tokens: int
    """Tokens that were guessed from earlier text and run on trial."""
    accepted_tokens: int
    """Those of them that the model chose as well."""
    shifted_tokens: int
    """Tokens that were forgotten to make room in the context."""


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds."""

    prompt_seconds: float
    """From the prompt to the first token."""
    decode_seconds: float
    """From the first token to the last."""


@dataclass(frozen=True)
class Generation:
    """A finished generation."""

    prompt_ids: list[int]
    token_ids: list[int]
    """The generated tokens; the end token, or those of a stop string, included."""
    text: str
    """The text, without special tokens and up to the stop string."""
    finish_reason: Literal["stop", "length", "context", "cancelled"]
    """`stop` at an end token or a stop string, `length` at the end of the budget, `context` where prompt and
    text fill the context, `cancelled` by a token."""
    stop_string: str | None
    """The stop string that ended it."""
    logprobs: list[TokenLogProbabilities] | None
    """How likely each token was, if that was asked for."""
    usage: Usage
    timings: Timings

    @property
    def message(self) -> dict[str, str]:
        """The text as the assistant's message, to go on with a conversation."""
        return {"role": "assistant", "content": self.text}

    def __str__(self) -> str:
        return self.text
