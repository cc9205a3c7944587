"""Writes fixtures/sampling/cases.json: logits, a `generation_config.json`, and the probabilities that
Hugging Face's `generate` would draw the next token from.

    pip install transformers torch
    python tools/sampling/reference.py
"""

import json
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

FILE = Path(__file__).parents[2] / "fixtures" / "sampling" / "cases.json"
VOCABULARY = 24
PROMPT = [3, 5, 3]
GENERATED = [8, 5, 1]

OPTIONS = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.8, "top_k": 5},
    {"top_p": 0.8},
    {"top_p": 0.35},
    {"min_p": 0.2},
    {"temperature": 0.5, "min_p": 0.2},
    {"temperature": 1.5, "top_k": 10, "top_p": 0.6},
    {"temperature": 1.5, "top_k": 12, "top_p": 0.9, "min_p": 0.3},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.6, "temperature": 1.2},
    {"sequence_bias": [[[3], 2.5], [[7], -4.0]]},
    {"sequence_bias": [[[3], 2.5], [[5], -1.0]], "repetition_penalty": 1.7},
    {"sequence_bias": [[[2], 1.5]], "repetition_penalty": 1.2, "temperature": 0.9, "top_k": 9, "top_p": 0.85,
     "min_p": 0.05},
]


# Texts other than the usual one, with the options that look at them.
TEXTS = [
    ([3, 5, 3, 8], [5, 3], {"no_repeat_ngram_size": 2}),
    ([3, 5, 3, 8], [5, 3], {"no_repeat_ngram_size": 3}),
    ([3, 5], [], {"no_repeat_ngram_size": 1}),
    ([3], [], {"no_repeat_ngram_size": 4}),
    ([3, 5, 3, 8], [7, 5, 3], {"encoder_no_repeat_ngram_size": 2}),
    ([3, 5, 3, 8], [7, 5, 3], {"encoder_no_repeat_ngram_size": 1}),
    ([3, 5, 3, 8], [7, 5, 3], {"encoder_no_repeat_ngram_size": 3, "no_repeat_ngram_size": 3}),
    ([3, 5, 3, 8], [7], {"encoder_repetition_penalty": 1.5}),
    ([3, 5, 3, 8], [7, 3], {"encoder_repetition_penalty": 0.7, "repetition_penalty": 1.4}),
    ([3, 5], [7, 8], {"sequence_bias": [[[1], 2.5], [[7, 8, 2], 1.5], [[8, 2], -3.0], [[9, 4], 5.0]]}),
    ([3, 5], [7, 8], {"bad_words_ids": [[1], [2], [8, 6], [5, 7, 8, 7], [7, 4]]}),
    ([3, 5], [7, 8], {"suppress_tokens": [0, 2, 17], "repetition_penalty": 1.2}),
    ([3, 5], [], {"begin_suppress_tokens": [0, 4]}),
    ([3, 5], [7], {"begin_suppress_tokens": [0, 4]}),
    ([3, 5, 3], [8, 5], {"min_new_tokens": 3}),
    ([3, 5, 3], [8, 5, 1], {"min_new_tokens": 3}),
    ([3, 5, 3], [8], {"min_length": 5}),
    ([3, 5, 3], [8, 7], {"min_length": 5}),
    ([3], [], {"forced_bos_token_id": 6, "temperature": 2.0}),
    ([3, 4], [], {"forced_bos_token_id": 6}),
    ([3, 4], [5, 6], {"forced_eos_token_id": [2, 9], "max_new_tokens": 3}),
    ([3, 4], [5, 6], {"forced_eos_token_id": [2], "max_length": 6}),
    ([3, 4], [5, 6], {"forced_eos_token_id": [2], "max_length": 5}),
    ([3, 4], [5, 6, 7, 8], {"exponential_decay_length_penalty": [2, 1.6]}),
    ([3, 4], [5, 6, 7, 8], {"exponential_decay_length_penalty": [2, 0.6], "min_length": 3}),
    ([3, 4], [5, 6], {"exponential_decay_length_penalty": [2, 1.6]}),
    (PROMPT, GENERATED, {"top_h": 0.5}),
    (PROMPT, GENERATED, {"top_h": 0.9, "temperature": 1.6, "top_k": 6}),
    (PROMPT, GENERATED, {"top_h": 0.05}),
    (PROMPT, GENERATED, {"typical_p": 0.5}),
    (PROMPT, GENERATED, {"typical_p": 0.9, "temperature": 1.5}),
    (PROMPT, GENERATED, {"typical_p": 0.2, "top_k": 9}),
    (PROMPT, GENERATED, {"epsilon_cutoff": 0.03}),
    (PROMPT, GENERATED, {"epsilon_cutoff": 0.9}),
    (PROMPT, GENERATED, {"eta_cutoff": 0.03}),
    (PROMPT, GENERATED, {"eta_cutoff": 0.5, "temperature": 3.0}),
    (PROMPT, GENERATED, {"top_k": 15, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.9,
                         "epsilon_cutoff": 0.02, "eta_cutoff": 0.05, "temperature": 1.4}),
    (PROMPT, GENERATED, {"min_p": 1.0, "temperature": 3.0}),
]
# What all cases have, unless they say otherwise.
DEFAULTS = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "eos_token_id": [2, 9]}


def processors(options, prompt):
    """The processors of `generate`, in its order, by its own code."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=4, n_layer=1, n_head=1))
    config = model.generation_config
    for key, value in (DEFAULTS | options).items():
        setattr(config, key, value)
    config._eos_token_tensor = torch.tensor(config.eos_token_id)
    # As `generate` does before.
    if config.max_new_tokens is not None:
        config.max_length = len(prompt) + config.max_new_tokens
    ids = torch.tensor([prompt])
    return model._get_logits_processor(
        config, input_ids_seq_length=len(prompt), encoder_input_ids=ids)


def case(number, prompt, generated, options):
    torch.manual_seed(number)
    logits = (torch.randn(1, VOCABULARY) * 2).round(decimals=3)
    scores = processors(options, prompt)(torch.tensor([prompt + generated]), logits.clone())
    probabilities = scores.double().softmax(-1)[0]
    return {
        "prompt": prompt,
        "generated": generated,
        "generation_config": DEFAULTS | options,
        "logits": [round(x, 3) for x in logits[0].tolist()],
        "probabilities": [round(x, 7) for x in probabilities.tolist()],
    }


def main():
    texts = [(PROMPT, GENERATED, options) for options in OPTIONS] + TEXTS
    cases = [case(number, *text) for number, text in enumerate(texts)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(f"[\n{lines}\n]\n")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
