"""Where weights come from: a checkpoint on disk, or a seeded generator.

Both answer `get(name, shape)` with a float32 array; names are those of Hugging Face's models.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from anemll_export.config import LINEAR, ModelConfig
from anemll_export.errors import ExportError

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"
# Where checkpoints of models that also see keep the language model.
NESTED_PREFIXES = ("model.language_model.", "language_model.model.")


def layer_shapes(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """Shapes of one layer's weights, by name within `model.layers.N.`."""
    mixer = _linear_shapes if config.kind(layer) == LINEAR else _attention_shapes
    norms = ["input_layernorm", "post_attention_layernorm"]
    if config.family.sandwich_norms:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    return {f"{norm}.weight": (config.hidden,) for norm in norms} | mixer(config) | {
        "mlp.gate_proj.weight": (config.ffn, config.hidden),
        "mlp.up_proj.weight": (config.ffn, config.hidden),
        "mlp.down_proj.weight": (config.hidden, config.ffn),
    }


def _attention_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    rows = {"q": queries * (1 + config.family.gated_attention), "k": keys, "v": keys}
    shapes = {f"{name}_proj.weight": (count, config.hidden) for name, count in rows.items()}
    shapes["o_proj.weight"] = (config.hidden, queries)
    if config.qkv_bias:
        shapes |= {f"{name}_proj.bias": (count,) for name, count in rows.items()}
    if config.family.qk_norm:
        shapes |= {f"{name}_norm.weight": (config.head_dim,) for name in ("q", "k")}
    return {f"self_attn.{name}": shape for name, shape in shapes.items()}


def _linear_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    sizes = config.linear
    width = sizes.value_heads * sizes.value_dim
    shapes = {
        "in_proj_qkv.weight": (sizes.channels, config.hidden),
        "in_proj_z.weight": (width, config.hidden),
        "in_proj_a.weight": (sizes.value_heads, config.hidden),
        "in_proj_b.weight": (sizes.value_heads, config.hidden),
        "conv1d.weight": (sizes.channels, 1, sizes.kernel),
        "A_log": (sizes.value_heads,),
        "dt_bias": (sizes.value_heads,),
        "norm.weight": (sizes.value_dim,),
        "out_proj.weight": (config.hidden, width),
    }
    return {f"linear_attn.{name}": shape for name, shape in shapes.items()}


def all_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of every weight of the model, by full name."""
    shapes = {EMBEDDING: (config.vocab, config.hidden), FINAL_NORM: (config.hidden,)}
    if not config.tied:
        shapes[HEAD] = (config.vocab, config.hidden)
    for layer in range(config.layers):
        for name, shape in layer_shapes(config, layer).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    return shapes


def constant_name(name: str) -> str:
    """What the constant of a weight is called in a package."""
    return f"model_{name.replace('.', '_')}".replace("_linear_attn_A_log", "_linear_attn_rates")


def as_exported(config: ModelConfig, name: str, values: np.ndarray) -> np.ndarray:
    """Values as the graph wants them, where a checkpoint keeps them in another form."""
    if name.endswith("A_log"):
        return -np.exp(values)
    return values + norm_offset(config, name)


def as_stored(config: ModelConfig, name: str, values: np.ndarray) -> np.ndarray:
    """The reverse of `as_exported`."""
    if name.endswith("A_log"):
        return np.log(-values)
    return values - norm_offset(config, name)


def norm_offset(config: ModelConfig, name: str) -> np.float32:
    """What a stored norm factor lacks. The norm inside linear attention lacks nothing."""
    is_norm = name.endswith("norm.weight") and "linear_attn" not in name
    return np.float32(config.family.norm_offset if is_norm else 0.0)


class CheckpointWeights:
    """Weights of a Hugging Face checkpoint: `model.safetensors`, or shards with an index."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._files = self._locate()

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The weight `name` as float32; ExportError where it is missing or of another shape."""
        stored = self._stored(name)
        if stored is None:
            raise ExportError(
                f"`{self._directory}` has no weight `{name}`; does `config.json` belong to it?"
            )
        # bf16 has no NumPy type, so torch reads and widens.
        with _open_shard(self._directory / self._files[stored]) as shard:
            value = shard.get_tensor(stored).float().numpy()
        if value.shape != shape:
            raise ExportError(
                f"weight `{name}` has shape {value.shape}, `config.json` asks for {shape}"
            )
        return value

    def _stored(self, name: str) -> str | None:
        nested = (name.replace("model.", prefix, 1) for prefix in NESTED_PREFIXES)
        return next((known for known in (name, *nested) if known in self._files), None)

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

    def __init__(self, config: ModelConfig, seed: int = 0):
        self._config, self._seed = config, seed

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Norm factors near 1, matrices scaled by fan-in so that activations keep their size."""
        generator = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        values = generator.standard_normal(shape, dtype=np.float32)
        if name.endswith("A_log"):
            # Heads that forget within a few positions, and heads that remember hundreds.
            return np.float32(1.5) * values - 4
        if len(shape) == 1:
            values *= np.float32(0.1)
            is_factor = name.endswith("norm.weight")
            return values + is_factor - norm_offset(self._config, name)
        return values * np.float32(shape[-1] ** -0.5)
