"""`python -m suite.llama FILE.gguf`: measures llama.cpp as `candle-coreml bench` measures this project."""

import argparse
import json
import statistics
import time

import numpy as np

SEED = 20


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt", type=numbers, required=True)
    parser.add_argument("--positions", type=numbers, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--repeat", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(measure(options)))


def measure(options):
    import llama_cpp

    longest = max(max(options.prompt), max(options.positions) + options.tokens + 1)
    began = time.perf_counter()
    model = llama_cpp.Llama(
        options.file,
        n_ctx=longest + 1,
        n_batch=512,
        n_threads=options.threads,
        n_threads_batch=options.threads,
        verbose=False,
    )
    load = time.perf_counter() - began
    ids = np.random.default_rng(SEED).integers(0, model.n_vocab(), longest).tolist()

    def prefill(tokens):
        model.reset()
        began = time.perf_counter()
        model.eval(ids[:tokens])
        return tokens / (time.perf_counter() - began)

    def decode(position):
        model.reset()
        model.eval(ids[: max(position, 1)])
        began = time.perf_counter()
        for token in ids[position : position + options.tokens]:
            model.eval([token])
        return options.tokens / (time.perf_counter() - began)

    def median(measured, argument):
        measured(argument)
        return statistics.median(measured(argument) for _ in range(options.repeat))

    return {
        "load_seconds": load,
        "prefill": [{"tokens": t, "tokens_per_second": median(prefill, t)} for t in options.prompt],
        "decode": [{"position": p, "tokens_per_second": median(decode, p)} for p in options.positions],
    }


if __name__ == "__main__":
    main()
