"""Writes fixtures/sampling/cases.json: logits, options, and the probabilities that Hugging Face's
`generate` would draw the next token from.

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
    {"bias": {"3": 2.5, "7": -4.0}},
    {"bias": {"3": 2.5, "5": -1.0}, "repetition_penalty": 1.7},
    {"bias": {"2": 1.5}, "repetition_penalty": 1.2, "temperature": 0.9, "top_k": 9, "top_p": 0.85,
     "min_p": 0.05},
]


def processors(options):
    """The processors of `generate`, in its order, by its own code."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=4, n_layer=1, n_head=1))
    config = model.generation_config
    config.do_sample = True
    config.temperature = options.get("temperature", 1.0)
    config.top_k = options.get("top_k", 0)
    config.top_p = options.get("top_p", 1.0)
    config.min_p = options.get("min_p")
    config.repetition_penalty = options.get("repetition_penalty", 1.0)
    bias = options.get("bias")
    config.sequence_bias = [[[int(id)], value] for id, value in bias.items()] if bias else None
    return model._get_logits_processor(config, input_ids_seq_length=len(PROMPT))


def main():
    cases = []
    for number, options in enumerate(OPTIONS):
        torch.manual_seed(number)
        logits = (torch.randn(1, VOCABULARY) * 2).round(decimals=3)
        scores = processors(options)(torch.tensor([PROMPT + GENERATED]), logits.clone())
        probabilities = scores.double().softmax(-1)[0]
        cases.append({
            "options": options,
            "logits": [round(x, 3) for x in logits[0].tolist()],
            "probabilities": [round(x, 7) for x in probabilities.tolist()],
        })
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"prompt": {PROMPT}, "generated": {GENERATED}, "cases": [\n{lines}\n]}}\n'
    FILE.write_text(text)
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
