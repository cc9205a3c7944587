"""Drives exported packages in the NumPy interpreter, exactly: every position runs once.

All tokens but the last go through `prefill` in windows, the last and all new ones through `infer`;
where a cache or state cannot take a padded window, positions go one by one.
"""

from pathlib import Path

import numpy as np
import yaml

from llm_fixtures.interpreter import Package

LOCAL = "model_model_kv_cache_local"


def open_model(directory: Path):
    """A driver of the export in `directory`, with `start()` and `next(ids)`."""
    if not (directory / "meta.yaml").exists():
        return Apple(directory)
    meta = yaml.safe_load((directory / "meta.yaml").read_text())["model_info"]["parameters"]
    return Anemll(directory, meta)


class Apple:
    """One function over ids and a mask."""

    def __init__(self, directory: Path):
        self._package = Package(next(directory.glob("*.mlpackage")))
        self._ids, self._mask = self._package.inputs["main"]

    def start(self, ids: list[int]):
        """Runs all ids but the last through an empty cache: two thirds of them at once, then the rest."""
        self._past = 0
        self._states = _zeros([self._package])
        cut = 2 * (len(ids) - 1) // 3
        for part in (ids[:cut], ids[cut:-1]):
            if part:
                self._run(part)

    def next(self, token: int) -> int:
        """The likeliest token after `token`."""
        return int(self._run([token])[0, -1].argmax())

    def _run(self, ids: list[int]) -> np.ndarray:
        rows = np.arange(self._past, self._past + len(ids))
        self._past += len(ids)
        mask = np.where(np.arange(self._past) <= rows[:, None], 0, -np.inf)
        inputs = {self._ids: np.array([ids], np.int32), self._mask: mask[None, None].astype(np.float32)}
        return self._package.run("main", inputs, self._states)["logits"]


class Anemll:
    """Embeddings, chunks and LM head, or all in one."""

    def __init__(self, directory: Path, meta: dict):
        self._context, self._window = meta["context_length"], meta["batch_size"]
        self._sizes = meta["lm_head_chunk_sizes"]
        self._static = not (meta.get("prefill_dynamic_slice") or meta.get("update_mask_prefill"))
        self._per_chunk = meta.get("per_chunk_state", False)
        self._embeddings, self.head = _one(directory, "embeddings"), _one(directory, "lm_head")
        self._chunks = [
            _functions(directory, number) for number in range(1, meta.get("num_chunks", 1) + 1)
        ]
        first = self._chunks[0]["infer"]
        shapes = first[0].states[first[1]]
        self._sliding = shapes[LOCAL][2] if LOCAL in shapes else None

    def start(self, ids: list[int]):
        """Runs all ids but the last through empty caches."""
        self._past = 0
        chunks = [[package for package, _ in chunk.values()] for chunk in self._chunks]
        if self._per_chunk:
            self._states = [_zeros(packages) for packages in chunks]
        else:
            self._states = [_zeros(sum(chunks, []))] * len(chunks)
        rest = list(ids[:-1])
        while rest:
            taken = self._next_window(len(rest))
            self._prefill(rest[:taken]) if taken > 1 else self._infer(rest[0])
            self._past += taken
            del rest[:taken]

    def next(self, token: int) -> int:
        """The likeliest token after `token`."""
        outputs = self._infer(token)
        self._past += 1
        if self.head is not None:
            outputs = self.head.run("main", {"hidden_states": outputs["output_hidden_states"]})
        if "argmax_idx" in outputs:
            part = int(outputs["argmax_val"].argmax())
            return int(outputs["argmax_idx"][part]) + sum(self._sizes[:part])
        names = [f"logits{number}" for number in range(1, len(outputs) + 1)]
        return int(np.concatenate([outputs[name] for name in names], axis=-1).argmax())

    def _next_window(self, left: int) -> int:
        """How many positions to take at once."""
        if "prefill" not in self._chunks[0] or (self._static and self._past):
            return 1
        if self._sliding is None:
            fits = self._past + self._window <= self._context
            return min(left, self._window) if fits else 1
        whole = left >= self._window and self._past + self._window <= self._sliding
        return self._window if whole else 1

    def _prefill(self, ids: list[int]):
        self.run("prefill", ids + [0] * (self._window - len(ids)), len(ids))

    def _infer(self, token: int) -> dict:
        rotate = self._sliding is not None and self._past >= self._sliding
        return self.run("infer_rotate" if rotate else "infer", [token], 1)

    def run(self, function: str, ids: list[int], valid: int) -> dict:
        """The last chunk's outputs for ids behind the past, the first `valid` of which are no padding."""
        rows = np.arange(self._past, self._past + len(ids))
        visible = np.arange(self._context) <= rows[:, None]
        update = np.zeros((self._context, len(ids)), np.float32)
        update[rows[:valid], np.arange(valid)] = 1
        inputs = {
            "input_ids": np.array([ids], np.int32),
            "position_ids": rows.astype(np.int32),
            "causal_mask": np.where(visible, 0, -np.inf).astype(np.float32)[None, None],
            "current_pos": rows[:1].astype(np.int32),
            "update_mask": update[None, None],
        }
        if self._embeddings is not None:
            inputs |= self._embeddings.run("main", {"input_ids": inputs["input_ids"]})
        for chunk, states in zip(self._chunks, self._states):
            package, name = chunk[function]
            given = {key: inputs[key] for key in package.inputs[name]}
            outputs = package.run(name, given, states)
            inputs["hidden_states"] = outputs.get("output_hidden_states")
        return outputs


def _functions(directory: Path, number: int) -> dict[str, tuple[Package, str]]:
    """The functions of a chunk by what they do: the package and the name there."""
    found = {}
    paths = [*directory.glob(f"*_chunk_{number:02}of*"), *directory.glob("*_monolithic_*")]
    for path in sorted(paths):
        package = Package(path)
        for name in package.inputs:
            what = name
            if name == "main":
                what = "prefill" if "_prefill" in path.name else "infer"
            found[what] = (package, name)
    return found


def _one(directory: Path, part: str) -> Package | None:
    path = next(directory.glob(f"*_{part}*"), None)
    return None if path is None else Package(path)


def _zeros(packages: list[Package]) -> dict[str, np.ndarray]:
    shapes = [states for package in packages for states in package.states.values()]
    return {name: np.zeros(shape, np.float32) for states in shapes for name, shape in states.items()}
