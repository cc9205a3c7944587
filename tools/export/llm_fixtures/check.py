"""`python -m llm_fixtures.check DIRECTORY...` interprets exports and compares with their `expected.json`."""

import json
import sys
from pathlib import Path

from llm_fixtures.driver import open_model


def mismatches(directory: Path, longest: int = 1000) -> list[str]:
    """The prompts up to that length whose tokens come out wrong, with what came out."""
    model, found = open_model(directory), []
    for prompt in json.loads((directory / "expected.json").read_text(encoding="utf-8"))["prompts"]:
        if prompt["n_prompt"] > longest:
            continue
        sure = prompt["robust_prefix_len"]
        model.start(prompt["prompt_ids"])
        tokens = prompt["prompt_ids"][-1:]
        for _ in range(sure):
            tokens.append(model.next(tokens[-1]))
        if tokens[1:] != prompt["next_ids"][:sure]:
            found.append(f"{prompt['name']}: {tokens[1:]}, not {prompt['next_ids'][:sure]}")
    return found


def main(directories: list[str]) -> int:
    """Prints what differs; returns the exit code."""
    wrong = 0
    for directory in directories:
        found = mismatches(Path(directory))
        wrong += len(found)
        print(f"{directory}: {'; '.join(found) or 'as expected'}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
