"""Sizes of the model, read from a checkpoint's `config.json` and checked before any work is done."""

import json
from dataclasses import dataclass
from pathlib import Path

from anemll_export.errors import ExportError
from anemll_export.families import FAMILIES, NESTED, Family
from anemll_export.rope import RopeScaling

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
SIZES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")


@dataclass(frozen=True)
class LinearAttention:
    """Sizes of gated DeltaNet layers."""

    key_heads: int  # linear_num_key_heads
    value_heads: int  # linear_num_value_heads
    key_dim: int  # linear_key_head_dim
    value_dim: int  # linear_value_head_dim
    kernel: int  # linear_conv_kernel_dim

    @property
    def channels(self) -> int:
        """Queries, keys and values of one position, side by side."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a model, with the names a Hugging Face `config.json` gives them in brackets."""

    layers: int  # num_hidden_layers
    hidden: int  # hidden_size
    heads: int  # num_attention_heads
    kv_heads: int  # num_key_value_heads
    head_dim: int  # head_dim
    ffn: int  # intermediate_size
    vocab: int  # vocab_size
    rms_eps: float = 1e-6  # rms_norm_eps
    rope_theta: float = 1_000_000.0  # rope_theta
    tied: bool = True  # tie_word_embeddings
    model_type: str = "qwen3"  # model_type
    qkv_bias: bool = False  # attention_bias
    rope_scaling: RopeScaling | None = None  # rope_scaling
    rotary_dim: int | None = None  # partial_rotary_factor * head_dim; None turns the whole head
    query_scalar: float | None = None  # query_pre_attn_scalar; None is head_dim
    sliding_window: int | None = None  # sliding_window
    local_theta: float = 10_000.0  # rope_local_base_freq
    layer_kinds: tuple[str, ...] = ()  # layer_types; empty means attention over everything
    linear: LinearAttention | None = None

    def __post_init__(self):
        for name in (*SIZES, "rms_eps", "rope_theta"):
            if getattr(self, name) <= 0:
                raise ExportError(f"model size `{name}` is {getattr(self, name)}; it must be positive")
        if self.heads % self.kv_heads:
            raise ExportError(
                f"{self.heads} attention heads cannot share {self.kv_heads} key-value heads evenly; "
                "make `heads` a multiple of `kv-heads`"
            )
        if self.turned % 2:
            raise ExportError(
                f"head dimension {self.turned} is odd; rotary embeddings turn pairs of values"
            )
        if self.layer_kinds and len(self.layer_kinds) != self.layers:
            raise ExportError(f"{len(self.layer_kinds)} kinds of layers for {self.layers} layers")

    @property
    def family(self) -> Family:
        """Traits that all models of this type share."""
        return FAMILIES[self.model_type]

    @property
    def turned(self) -> int:
        """Channels of a head that rotary embeddings turn."""
        return self.rotary_dim or self.head_dim

    @property
    def attention_scale(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return (self.query_scalar or self.head_dim) ** -0.5

    def kind(self, layer: int) -> str:
        """FULL, SLIDING or LINEAR."""
        return self.layer_kinds[layer] if self.layer_kinds else FULL

    def of_kind(self, kind: str) -> list[int]:
        """The layers of that kind, in order: a layer's place here is its place in a state."""
        return [layer for layer in range(self.layers) if self.kind(layer) == kind]


PRESETS = {
    "qwen3-0.6b": ModelConfig(
        layers=28, hidden=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072, vocab=151936
    )
}


def read_model_config(directory: Path) -> ModelConfig:
    """Reads `config.json` of a Hugging Face checkpoint."""
    path = directory / "config.json"
    raw = _read_json(path)
    if raw.get("model_type") in NESTED and isinstance(raw.get("text_config"), dict):
        outer = {key: raw[key] for key in ("tie_word_embeddings",) if key in raw}
        raw = outer | raw["text_config"] | {"model_type": NESTED[raw["model_type"]]}
    _check_supported(path, raw)
    family = FAMILIES[raw["model_type"]]
    hidden, heads = _number(path, raw, "hidden_size"), _number(path, raw, "num_attention_heads")
    head_dim = raw.get("head_dim") or hidden // heads
    layers = _number(path, raw, "num_hidden_layers")
    kinds = _layer_kinds(path, raw, layers)
    rope, local = _rope(raw)
    return ModelConfig(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_number(path, raw, "num_key_value_heads"),
        head_dim=head_dim,
        ffn=_number(path, raw, "intermediate_size"),
        vocab=_number(path, raw, "vocab_size"),
        rms_eps=raw.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta", 1_000_000.0),
        tied=raw.get("tie_word_embeddings", family.tied),
        model_type=raw["model_type"],
        qkv_bias=family.qkv_bias,
        rope_scaling=_scaling(path, rope),
        rotary_dim=_rotary_dim(rope, head_dim),
        query_scalar=raw.get("query_pre_attn_scalar"),
        sliding_window=_number(path, raw, "sliding_window") if SLIDING in kinds else None,
        local_theta=local.get("rope_theta", 10_000.0),
        layer_kinds=kinds,
        linear=_linear(path, raw) if LINEAR in kinds else None,
    )


def _layer_kinds(path: Path, raw: dict, layers: int) -> tuple[str, ...]:
    """The kind of every layer; older configurations say only how often full attention comes."""
    model_type = raw["model_type"]
    if model_type == "gemma3_text":
        every = raw.get("sliding_window_pattern") or raw.get("_sliding_window_pattern") or 6
        other = SLIDING
    elif model_type == "qwen3_5_text":
        every, other = raw.get("full_attention_interval") or 4, LINEAR
    else:
        return ()
    kinds = raw.get("layer_types") or [
        other if (layer + 1) % every else FULL for layer in range(layers)
    ]
    unknown = set(kinds) - {FULL, other}
    if unknown:
        raise ExportError(f"`{path}`: layers of kind {sorted(unknown)} are not supported")
    return tuple(kinds)


def _rope(raw: dict) -> tuple[dict, dict]:
    """Parameters of the rotary embeddings, and those of sliding layers, from either place."""
    given = raw.get("rope_parameters") or {}
    if FULL in given:
        return given[FULL], given.get(SLIDING, {})
    older = {key: raw[key] for key in ("rope_theta", "partial_rotary_factor") if key in raw}
    local = {"rope_theta": raw["rope_local_base_freq"]} if "rope_local_base_freq" in raw else {}
    return older | (raw.get("rope_scaling") or {}) | given, local


def _scaling(path: Path, rope: dict) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    try:
        if kind == "linear":
            return RopeScaling(float(rope["factor"]))
        if kind == "llama3":
            names = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
            return RopeScaling(float(rope["factor"]), *(float(rope[name]) for name in names))
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"`{path}`: rotary scaling `{kind}` lacks a number: {error}") from error
    raise ExportError(f"`{path}`: rotary scaling `{kind}` is not supported, only linear and llama3")


def _rotary_dim(rope: dict, head_dim: int) -> int | None:
    factor = rope.get("partial_rotary_factor", 1.0)
    return None if factor == 1.0 else int(head_dim * factor)


def _linear(path: Path, raw: dict) -> LinearAttention:
    names = (
        "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim",
        "linear_value_head_dim", "linear_conv_kernel_dim",
    )
    return LinearAttention(*(_number(path, raw, name) for name in names))


def _read_json(path: Path) -> dict:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"cannot read `{path}`: {error.strerror}; is this a checkpoint?") from error
    except ValueError as error:
        raise ExportError(f"`{path}` is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ExportError(f"`{path}` does not hold a JSON object")
    return raw


def _number(path: Path, raw: dict, key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or value <= 0:
        raise ExportError(f"`{path}` has no positive whole number `{key}` (found {value!r})")
    return value


def _check_supported(path: Path, raw: dict):
    """Refuses what the graph does not express, rather than exporting a model that talks nonsense."""
    model_type = raw.get("model_type")
    if model_type not in FAMILIES:
        known = ", ".join(f"`{name}`" for name in FAMILIES)
        raise ExportError(f"`{path}` is of model type {model_type!r}; only {known} can be exported")
    activation = raw.get("hidden_activation") or raw.get("hidden_act", "silu")
    wanted = {"silu": "silu", "gelu": "gelu_pytorch_tanh"}[FAMILIES[model_type].activation]
    if activation != wanted:
        raise ExportError(f"`{path}`: activation `{activation}` is not supported, only `{wanted}`")
    if raw.get("attention_bias") or raw.get("mlp_bias"):
        raise ExportError(f"`{path}`: biases of attention or MLP are not supported")
    if raw.get("use_sliding_window") or (model_type == "mistral" and raw.get("sliding_window")):
        raise ExportError(f"`{path}`: sliding-window attention is not supported for `{model_type}`")
    if raw.get("attn_logit_softcapping") or raw.get("final_logit_softcapping"):
        raise ExportError(f"`{path}`: soft caps on logits are not supported")
