"""The neighbouring export tool, made importable without being installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "export"))

from anemll_export.cli import main as run_export
from anemll_export.config import ModelConfig
from anemll_export.readback import checkpoint_weights

__all__ = ["checkpoint_weights", "export", "model_config"]


def model_config(sizes) -> ModelConfig:
    """The exporter's description of a model of those sizes."""
    return ModelConfig(
        layers=sizes.num_hidden_layers,
        hidden=sizes.hidden_size,
        heads=sizes.num_attention_heads,
        kv_heads=sizes.num_key_value_heads,
        head_dim=sizes.head_dim,
        ffn=sizes.intermediate_size,
        vocab=sizes.vocab_size,
    )


def export(checkpoint: Path, output: Path, name: str, *options: str):
    """Exports a checkpoint; exits where the tool reports an error."""
    arguments = [str(output), "--checkpoint", str(checkpoint), "--name", name]
    code = run_export([*arguments, "--license", "MIT OR Apache-2.0", *options])
    if code:
        sys.exit(code)
