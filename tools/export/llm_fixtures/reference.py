"""References: Hugging Face's own models, in float32, with random weights or those of an export."""

import json
from pathlib import Path

import torch
from anemll_export.bytes_tokenizer import BYTES, write_tokenizer
from anemll_export.config import read_model_config
from anemll_export.families import FAMILIES
from anemll_export.readback import checkpoint_weights
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

# Gains over weights that keep activations' size: attention looks at few positions and its result
# weighs as much as the token itself, so that tokens depend on all earlier ones.
GAINS = {
    **dict.fromkeys(("q_proj.weight", "k_proj.weight", "q_norm.weight", "k_norm.weight"), 1.6),
    **dict.fromkeys(("o_proj.weight", "out_proj.weight"), 2.0),
}
# Spread of the logits: wide enough that the two largest are seldom close.
LOGIT_SPREAD = 12.0


def write_checkpoint(directory: Path, raw: dict, seed: int, context: int):
    """A checkpoint with random weights for the configuration `raw`, and a tokenizer of bytes."""
    model = _model(raw)
    offset = FAMILIES[raw["model_type"]].norm_offset
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: _random(name, value.shape, offset, generator).half().contiguous()
        for name, value in model.named_parameters()
    }
    if FAMILIES[raw["model_type"]].scaled_embeddings:
        tensors["model.embed_tokens.weight"] *= raw["hidden_size"] ** -0.5
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    write_tokenizer(directory, context)


def load_reference(checkpoint: Path, export: Path):
    """The checkpoint's model with the weights that the packages hold, dequantized."""
    model = _model(json.loads((checkpoint / "config.json").read_text(encoding="utf-8")))
    weights = checkpoint_weights(export, read_model_config(checkpoint))
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return model


def _model(raw: dict):
    config = AutoConfig.for_model(**raw)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


def _random(name: str, shape, offset: float, generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if name.endswith("A_log"):
        # Heads that forget within a few positions, and heads that remember a hundred.
        return 1.5 * values - 3
    if name == "lm_head.weight":
        values[BYTES:] = 0  # text is made of bytes alone
        return values * LOGIT_SPREAD * shape[1] ** -0.5
    if name == "model.embed_tokens.weight":
        return values
    if name.endswith("norm.weight"):
        stored = 0.0 if "linear_attn" in name else offset
        return _gain(name) + 0.1 * values - stored
    if len(shape) == 1:
        return 0.5 * values
    return values * _gain(name) * shape[-1] ** -0.5


def _gain(name: str) -> float:
    return next((gain for ending, gain in GAINS.items() if name.endswith(ending)), 1.0)
