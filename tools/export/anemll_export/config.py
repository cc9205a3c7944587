"""Sizes of the model and choices of the export, both checked before any work is done."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from anemll_export.errors import ExportError

LUT_BITS = (4, 6, 8)
LUT_MODES = ("kmeans", "quantile", "uniform")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a Qwen 3 model, with the names a Hugging Face `config.json` gives them in brackets."""

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

    def __post_init__(self):
        for field in fields(self):
            if field.name == "tied":
                continue
            value = getattr(self, field.name)
            if value <= 0:
                raise ExportError(f"model size `{field.name}` is {value}; it must be positive")
        if self.heads % self.kv_heads:
            raise ExportError(
                f"{self.heads} attention heads cannot share {self.kv_heads} key-value heads evenly; "
                "make `heads` a multiple of `kv-heads`"
            )
        if self.head_dim % 2:
            raise ExportError(
                f"head dimension {self.head_dim} is odd; rotary embeddings turn pairs of values"
            )


QWEN3_0_6B = ModelConfig(
    layers=28, hidden=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072, vocab=151936
)
PRESETS = {"qwen3-0.6b": QWEN3_0_6B}


@dataclass(frozen=True)
class ExportOptions:
    """Choices of one export. LUT widths are bits per weight; None keeps fp16."""

    context: int = 512
    window: int = 64
    chunks: int = 1
    head_parts: int = 16
    lut_embeddings: int | None = None
    lut_ffn: int | None = None
    lut_lmhead: int | None = None
    lut_mode: str = "kmeans"
    prefix: str = "qwen"

    def __post_init__(self):
        for name in ("context", "window", "chunks", "head_parts"):
            if getattr(self, name) < 1:
                raise ExportError(f"`{name}` is {getattr(self, name)}; it must be at least 1")
        if self.context % self.window:
            raise ExportError(
                f"context {self.context} is not a multiple of window {self.window}; the last window "
                "of a long prompt would not fit into the cache"
            )
        for name in ("lut_embeddings", "lut_ffn", "lut_lmhead"):
            if getattr(self, name) not in (None, *LUT_BITS):
                raise ExportError(
                    f"`{name}` is {getattr(self, name)}; choose one of {LUT_BITS} or none"
                )
        if self.lut_mode not in LUT_MODES:
            raise ExportError(f"`lut_mode` is `{self.lut_mode}`; choose one of {LUT_MODES}")

    def check_fits(self, model: ModelConfig):
        """Raises ExportError where these choices do not suit the model's sizes."""
        if self.chunks > model.layers:
            raise ExportError(
                f"{self.chunks} chunks for {model.layers} layers would leave chunks empty; "
                "use fewer chunks"
            )
        if self.head_parts > model.vocab:
            raise ExportError(
                f"a vocabulary of {model.vocab} cannot be split into {self.head_parts} parts; "
                "use fewer head parts"
            )


def read_model_config(directory: Path) -> ModelConfig:
    """Reads `config.json` of a Hugging Face Qwen 3 checkpoint."""
    path = directory / "config.json"
    raw = _read_json(path)
    _check_supported(path, raw)
    hidden, heads = _number(path, raw, "hidden_size"), _number(path, raw, "num_attention_heads")
    rope = raw.get("rope_parameters") or raw
    return ModelConfig(
        layers=_number(path, raw, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=_number(path, raw, "num_key_value_heads"),
        head_dim=raw.get("head_dim") or hidden // heads,
        ffn=_number(path, raw, "intermediate_size"),
        vocab=_number(path, raw, "vocab_size"),
        rms_eps=raw.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta", 1_000_000.0),
        tied=raw.get("tie_word_embeddings", True),
    )


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
    if raw.get("model_type") != "qwen3":
        raise ExportError(
            f"`{path}` is of model type {raw.get('model_type')!r}; only `qwen3` can be exported"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise ExportError(f"`{path}`: activation `{raw['hidden_act']}` is not supported, only `silu`")
    if raw.get("attention_bias"):
        raise ExportError(f"`{path}`: attention biases are not supported")
    if raw.get("use_sliding_window"):
        raise ExportError(f"`{path}`: sliding-window attention is not supported")
    scaling = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise ExportError(f"`{path}`: scaled rotary embeddings (`{kind}`) are not supported")
