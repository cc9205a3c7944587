"""Decoder layers: norms, attention over a cache, and the MLP.

Shapes use S for the positions a function handles at once, H for the hidden size and D for the head
dimension.
"""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Var

from anemll_export.config import LINEAR, SLIDING, ModelConfig
from anemll_export.delta import DeltaNet
from anemll_export.mil import (
    Weight,
    as_index,
    constant,
    from_image,
    gather,
    part,
    rms_norm,
    to_image,
)


class Weights:
    """A package's weights as constants of the function at hand, keyed as the constants are named."""

    def __init__(self, config: ModelConfig, arrays: dict[str, Weight]):
        self._config, self._arrays = config, arrays
        self._constants: dict[tuple, Var] = {}

    def get(self, name: str, shape: tuple[int, ...] | None = None) -> Var:
        """The constant `name`, written once per function and shape."""
        key = (name, shape)
        if key not in self._constants:
            self._constants[key] = constant(name, self._arrays[name], shape)
        return self._constants[key]

    def norm(self, x: Var, name: str) -> Var:
        """RMSNorm by the factors `name`_weight."""
        gamma = self.get(f"model_model_{name}_weight", (x.shape[-1],))
        return rms_norm(x, gamma, self._config.rms_eps, name)

    def project(self, image: Var, name: str, rows: int, biased: bool = False) -> Var:
        """[1, H, 1, S] to [1, rows, 1, S] by the matrix `name`_weight and maybe `name`_bias."""
        kernel = self.get(f"model_model_{name}_weight", (rows, image.shape[1], 1, 1))
        bias = {"bias": self.get(f"model_model_{name}_bias", (rows,))} if biased else {}
        return mb.conv(x=image, weight=kernel, name=name, **bias)


class Rotary:
    """Rotary embeddings at the positions at hand, int32 [S]."""

    def __init__(self, config: ModelConfig, weights: Weights, positions: Var, context: int):
        self._width = config.turned
        self._weights, self._index = weights, as_index(positions, context, "rope")
        self._rows: dict[str, tuple[Var, Var]] = {}

    def turn(self, x: Var, kind: str, name: str) -> Var:
        """Turns the first channels of [1, heads, S, D]; `kind` is that of the layer."""
        cos, sin = self._tables("rope_local" if kind == SLIDING else "rope")
        width = self._width
        whole = width == x.shape[3]
        turned = x if whole else part(x, 3, 0, width, f"{name}_part")
        first = part(turned, 3, 0, width // 2, f"{name}_first")
        second = part(turned, 3, width // 2, width, f"{name}_second")
        negated = mb.mul(x=second, y=np.float16(-1), name=f"{name}_negated")
        swapped = mb.concat(values=[negated, first], axis=3, name=f"{name}_swapped")
        result = mb.add(
            x=mb.mul(x=turned, y=cos, name=f"{name}_cos"),
            y=mb.mul(x=swapped, y=sin, name=f"{name}_sin"),
            name=name if whole else f"{name}_turned",
        )
        if whole:
            return result
        rest = part(x, 3, width, x.shape[3], f"{name}_rest")
        return mb.concat(values=[result, rest], axis=3, name=name)

    def _tables(self, prefix: str) -> tuple[Var, Var]:
        if prefix not in self._rows:
            self._rows[prefix] = (self._read(f"{prefix}_cos"), self._read(f"{prefix}_sin"))
        return self._rows[prefix]

    def _read(self, name: str) -> Var:
        """The rows of a table at the positions at hand: [1, 1, S, width]."""
        rows = gather(self._weights.get(name), self._index, 1, f"{name}_rows")
        return mb.reshape(x=rows, shape=[1, 1, -1, self._width], name=f"{name}_heads")


class Layers:
    """Writes layers one after another, all using the same cache."""

    def __init__(self, config: ModelConfig, weights: Weights, rotary: Rotary, cache, inputs: dict):
        self._config, self._weights = config, weights
        self._attention = Attention(config, weights, rotary, cache)
        self._delta = DeltaNet(config, weights, inputs)

    def write(self, layer: int, hidden: Var) -> Var:
        """One decoder layer: [1, S, H] to [1, S, H]."""
        name, norm = f"layers_{layer}", self._weights.norm
        sandwich = self._config.family.sandwich_norms
        mixer = self._delta if self._config.kind(layer) == LINEAR else self._attention
        mixed = mixer.write(layer, norm(hidden, f"{name}_input_layernorm"))
        if sandwich:
            mixed = norm(mixed, f"{name}_post_attention_layernorm")
        hidden = mb.add(x=hidden, y=mixed, name=f"{name}_attention_residual")
        before = "pre_feedforward" if sandwich else "post_attention"
        wide = self._mlp(name, norm(hidden, f"{name}_{before}_layernorm"))
        if sandwich:
            wide = norm(wide, f"{name}_post_feedforward_layernorm")
        return mb.add(x=hidden, y=wide, name=f"{name}_output")

    def _mlp(self, name: str, x: Var) -> Var:
        config, name = self._config, f"{name}_mlp"
        image = to_image(x, f"{name}_input")
        gate = self._weights.project(image, f"{name}_gate_proj", config.ffn)
        up = self._weights.project(image, f"{name}_up_proj", config.ffn)
        if config.family.activation == "gelu":
            active = mb.gelu(x=gate, mode="TANH_APPROXIMATION", name=f"{name}_gelu")
        else:
            active = mb.silu(x=gate, name=f"{name}_silu")
        gated = mb.mul(x=active, y=up, name=f"{name}_gated")
        down = self._weights.project(gated, f"{name}_down_proj", config.hidden)
        return from_image(down, f"{name}_out")


class Attention:
    """Grouped-query attention over a cache."""

    def __init__(self, config: ModelConfig, weights: Weights, rotary: Rotary, cache):
        self._config, self._weights, self._rotary, self._cache = config, weights, rotary, cache

    def write(self, layer: int, x: Var) -> Var:
        """Attention of one layer: [1, S, H] to [1, S, H]."""
        config, name, kind = self._config, f"layers_{layer}_self_attn", self._config.kind(layer)
        image = to_image(x, f"{name}_input")
        queries = self._heads(image, f"{name}_q", config.heads, 1 + config.family.gated_attention)
        gate = None
        if config.family.gated_attention:
            gate = part(queries, 3, config.head_dim, 2 * config.head_dim, f"{name}_gate")
            queries = part(queries, 3, 0, config.head_dim, f"{name}_q_alone")
        keys = self._heads(image, f"{name}_k", config.kv_heads)
        values = self._heads(image, f"{name}_v", config.kv_heads)
        queries, keys = self._turned(queries, f"{name}_q", kind), self._turned(keys, f"{name}_k", kind)
        keys, values, mask = self._cache.update(layer, keys, values, name)
        mixed = self._mix(name, queries, self._shared(keys, f"{name}_k_shared"),
                          self._shared(values, f"{name}_v_shared"), mask)
        if gate is not None:
            mixed = mb.mul(x=mixed, y=mb.sigmoid(x=gate, name=f"{name}_opening"), name=f"{name}_gated")
        return self._output(name, mixed)

    def _heads(self, image: Var, name: str, count: int, widths: int = 1) -> Var:
        """Projects [1, H, 1, S] to [1, count, S, widths * D]."""
        width = widths * self._config.head_dim
        flat = self._weights.project(image, f"{name}_proj", count * width, self._config.qkv_bias)
        split = mb.reshape(x=flat, shape=[1, count, width, -1], name=f"{name}_split")
        return mb.transpose(x=split, perm=[0, 1, 3, 2], name=f"{name}_heads")

    def _turned(self, x: Var, name: str, kind: str) -> Var:
        if self._config.family.qk_norm:
            x = self._weights.norm(x, f"{name}_norm")
        return self._rotary.turn(x, kind, f"{name}_rotated")

    def _shared(self, x: Var, name: str) -> Var:
        """[1, kv_heads, n, D] with each head repeated for its queries: [1, heads, n, D]."""
        repeats = self._config.heads // self._config.kv_heads
        if repeats == 1:
            return x
        x = mb.squeeze(x=x, axes=[0], name=f"{name}_squeezed")
        x = mb.expand_dims(x=x, axes=[1], name=f"{name}_grouped")
        x = mb.tile(x=x, reps=[1, repeats, 1, 1], name=f"{name}_tiled")
        shape = [1, self._config.heads, -1, self._config.head_dim]
        return mb.reshape(x=x, shape=shape, name=name)

    def _mix(self, name: str, queries: Var, keys: Var, values: Var, mask: Var) -> Var:
        """Softmax attention: [1, heads, S, D]."""
        scores = mb.matmul(x=queries, y=keys, transpose_y=True, name=f"{name}_products")
        scale = np.float16(self._config.attention_scale)
        scores = mb.mul(x=scores, y=scale, name=f"{name}_scores")
        scores = mb.add(x=scores, y=mask, name=f"{name}_masked")
        weights = mb.softmax(x=scores, axis=-1, name=f"{name}_weights")
        return mb.matmul(x=weights, y=values, name=f"{name}_mixed")

    def _output(self, name: str, mixed: Var) -> Var:
        """Joins the heads and projects them to [1, S, H]."""
        config, width = self._config, self._config.heads * self._config.head_dim
        mixed = mb.transpose(x=mixed, perm=[0, 2, 1, 3], name=f"{name}_by_position")
        mixed = mb.reshape(x=mixed, shape=[1, -1, width], name=f"{name}_joined")
        mixed = mb.transpose(x=mixed, perm=[0, 2, 1], name=f"{name}_channels")
        kernel = self._weights.get(f"model_model_{name}_o_proj_weight", (config.hidden, width, 1))
        out = mb.conv(x=mixed, weight=kernel, name=f"{name}_o_proj")
        return mb.transpose(x=out, perm=[0, 2, 1], name=f"{name}_output")
