"""Where weights come from: a checkpoint on disk, or a seeded generator.

Both answer `get(name, shape)` with a float32 array; names are those of Hugging Face's Qwen 3.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from anemll_export.config import ModelConfig
from anemll_export.errors import ExportError

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of one layer's weights, by name within `model.layers.N.`."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "input_layernorm.weight": (config.hidden,),
        "self_attn.q_proj.weight": (queries, config.hidden),
        "self_attn.k_proj.weight": (keys, config.hidden),
        "self_attn.v_proj.weight": (keys, config.hidden),
        "self_attn.q_norm.weight": (config.head_dim,),
        "self_attn.k_norm.weight": (config.head_dim,),
        "self_attn.o_proj.weight": (config.hidden, queries),
        "post_attention_layernorm.weight": (config.hidden,),
        "mlp.gate_proj.weight": (config.ffn, config.hidden),
        "mlp.up_proj.weight": (config.ffn, config.hidden),
        "mlp.down_proj.weight": (config.hidden, config.ffn),
    }


def all_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of every weight of the model, by full name."""
    shapes = {EMBEDDING: (config.vocab, config.hidden), FINAL_NORM: (config.hidden,)}
    if not config.tied:
        shapes[HEAD] = (config.vocab, config.hidden)
    for layer in range(config.layers):
        for name, shape in layer_shapes(config).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    return shapes


class CheckpointWeights:
    """Weights of a Hugging Face checkpoint: `model.safetensors`, or shards with an index."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._files = self._locate()

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The weight `name` as float32; ExportError where it is missing or of another shape."""
        if name not in self._files:
            raise ExportError(
                f"`{self._directory}` has no weight `{name}`; does `config.json` belong to it?"
            )
        # bf16 has no NumPy type, so torch reads and widens.
        with _open_shard(self._directory / self._files[name]) as shard:
            value = shard.get_tensor(name).float().numpy()
        if value.shape != shape:
            raise ExportError(
                f"weight `{name}` has shape {value.shape}, `config.json` asks for {shape}"
            )
        return value

    def _locate(self) -> dict[str, str]:
        index = self._directory / "model.safetensors.index.json"
        if index.exists():
            try:
                return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
            except (ValueError, KeyError, TypeError) as error:
                raise ExportError(f"`{index}` is not a safetensors index: {error}") from error
        with _open_shard(self._directory / "model.safetensors") as shard:
            return {name: "model.safetensors" for name in shard.keys()}


def _open_shard(path: Path):
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise ExportError(f"cannot read weights from `{path}`: {error}") from error


class RandomWeights:
    """Seeded random weights; each depends on its name and the seed alone, not on the order read."""

    def __init__(self, seed: int = 0):
        self._seed = seed

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Norm factors near 1, matrices scaled by fan-in so that activations keep their size."""
        generator = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        values = generator.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            return 1 + np.float32(0.1) * values
        values *= np.float32(shape[1] ** -0.5)
        return values
