"""Qwen 3 in plain PyTorch: trains the demo and, in float32, tells which tokens to expect."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizer import write_json
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, named as in Hugging Face's configuration."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool = True
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0


class RmsNorm(nn.Module):
    """x divided by its root mean square over the last axis, times a factor per channel."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self._eps) * self.weight


class Attention(nn.Module):
    """Causal grouped-query attention with normalised queries and keys."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self._sizes = sizes
        queries = sizes.num_attention_heads * sizes.head_dim
        keys = sizes.num_key_value_heads * sizes.head_dim
        self.q_proj = nn.Linear(sizes.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(sizes.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(sizes.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, sizes.hidden_size, bias=False)
        self.q_norm = RmsNorm(sizes.head_dim, sizes.rms_norm_eps)
        self.k_norm = RmsNorm(sizes.head_dim, sizes.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        sizes = self._sizes
        queries = rotate(self.q_norm(self._heads(self.q_proj(x))), cos, sin)
        keys = rotate(self.k_norm(self._heads(self.k_proj(x))), cos, sin)
        values = self._heads(self.v_proj(x))
        repeats = sizes.num_attention_heads // sizes.num_key_value_heads
        mixed = functional.scaled_dot_product_attention(
            queries,
            keys.repeat_interleave(repeats, dim=1),
            values.repeat_interleave(repeats, dim=1),
            is_causal=True,
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self._sizes.head_dim)).transpose(1, 2)


class Mlp(nn.Module):
    """SwiGLU: a gated pair of projections and a way back."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.gate_proj = nn.Linear(sizes.hidden_size, sizes.intermediate_size, bias=False)
        self.up_proj = nn.Linear(sizes.hidden_size, sizes.intermediate_size, bias=False)
        self.down_proj = nn.Linear(sizes.intermediate_size, sizes.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.input_layernorm = RmsNorm(sizes.hidden_size, sizes.rms_norm_eps)
        self.self_attn = Attention(sizes)
        self.post_attention_layernorm = RmsNorm(sizes.hidden_size, sizes.rms_norm_eps)
        self.mlp = Mlp(sizes)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.embed_tokens = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.num_hidden_layers))
        self.norm = RmsNorm(sizes.hidden_size, sizes.rms_norm_eps)


class Qwen3(nn.Module):
    """The whole model; its parameters are named as Hugging Face names them."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.model = Decoder(sizes)
        self.lm_head = nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False)
        if sizes.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        cos, sin = rope_tables(sizes)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, length, vocab] for ids [batch, length]."""
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))


def rope_tables(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Cosines and sines [max positions, head_dim], the frequencies repeated for both halves."""
    exponents = torch.arange(0, sizes.head_dim, 2, dtype=torch.float64) / sizes.head_dim
    positions = torch.arange(sizes.max_position_embeddings, dtype=torch.float64)
    angles = torch.outer(positions, sizes.rope_theta**-exponents).repeat(1, 2)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [batch, heads, length, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def save_checkpoint(model: Qwen3, directory: Path):
    """Writes `config.json` and an fp16 `model.safetensors` in Hugging Face's form."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    if model.sizes.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_act": "silu",
        "torch_dtype": "float16",
        **vars(model.sizes),
    }
    write_json(directory / "config.json", config)
