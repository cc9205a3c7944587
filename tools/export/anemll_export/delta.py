"""Gated DeltaNet, the linear attention of Qwen 3.5: one position at a time over two states.

The recurrent state [1, value_heads, value_dim, key_dim] decays, and is corrected towards the value
that its key should give; the convolution's state [1, channels, 1, 32] keeps the last inputs in its
first columns.
"""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Var

from anemll_export.config import LINEAR, ModelConfig
from anemll_export.mil import from_image, part, replace_rows, rms_norm, to_image

# The Neural Engine pads a state's last axis to this anyway.
CONV_COLUMNS = 32
NORM_EPS = np.float16(1e-6)


def delta_states(config: ModelConfig, layer: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a layer's states."""
    sizes, place = config.linear, config.of_kind(LINEAR).index(layer)
    return {
        f"model_model_delta_{place}": (1, sizes.value_heads, sizes.value_dim, sizes.key_dim),
        f"model_model_conv_{place}": (1, sizes.channels, 1, CONV_COLUMNS),
    }


class DeltaNet:
    """Writes gated DeltaNet layers."""

    def __init__(self, config: ModelConfig, weights, inputs: dict[str, Var]):
        self._config, self._sizes = config, config.linear
        self._weights, self._inputs = weights, inputs

    def write(self, layer: int, x: Var) -> Var:
        """One layer: [1, 1, H] to [1, 1, H]."""
        sizes, name = self._sizes, f"layers_{layer}_linear_attn"
        delta, conv = (self._inputs[state] for state in delta_states(self._config, layer))
        image = to_image(x, f"{name}_input")
        project = self._weights.project
        mixed = self._convolve(conv, project(image, f"{name}_in_proj_qkv", sizes.channels), name)
        queries, keys, values = self._split(mixed, name)
        decay = self._decay(project(image, f"{name}_in_proj_a", sizes.value_heads), name)
        rate = mb.sigmoid(x=project(image, f"{name}_in_proj_b", sizes.value_heads), name=f"{name}_rate")
        out = self._recur(delta, queries, keys, values, decay, rate, name)
        width = sizes.value_heads * sizes.value_dim
        out = self._gate(out, project(image, f"{name}_in_proj_z", width), name)
        return from_image(project(out, f"{name}_out_proj", self._config.hidden), f"{name}_output")

    def _convolve(self, state: Var, new: Var, name: str) -> Var:
        """A causal convolution of each channel over the last positions, then SiLU."""
        sizes, name = self._sizes, f"{name}_conv"
        taps, last = sizes.kernel, sizes.kernel - 1
        cached = mb.read_state(input=state, name=f"{name}_cached")
        past = part(cached, 3, 0, last, f"{name}_past")
        window = mb.concat(values=[past, new], axis=3, name=f"{name}_window")
        kernel = self._weights.get(f"model_model_{name}1d_weight", (1, sizes.channels, 1, taps))
        products = mb.mul(x=window, y=kernel, name=f"{name}_products")
        total = mb.reduce_sum(x=products, axes=[3], keep_dims=True, name=f"{name}_sum")
        recent = part(window, 3, 1, taps, f"{name}_recent")
        filled = replace_rows(
            cached, recent, [0, 0, 0, 0], [0, 0, 0, last], [True, True, True, False], f"{name}_filled"
        )
        mb.coreml_update_state(state=state, value=filled, name=f"{name}_state")
        return mb.silu(x=total, name=f"{name}_silu")

    def _split(self, mixed: Var, name: str) -> tuple[Var, Var, Var]:
        """Columns [1, value_heads, dim, 1]; queries and keys of length 1, queries scaled."""
        sizes = self._sizes
        width = sizes.key_heads * sizes.key_dim
        queries = self._unit(part(mixed, 1, 0, width, f"{name}_q_flat"), f"{name}_q")
        keys = self._unit(part(mixed, 1, width, 2 * width, f"{name}_k_flat"), f"{name}_k")
        scale = np.float16(sizes.key_dim**-0.5)
        values = part(mixed, 1, 2 * width, sizes.channels, f"{name}_v_flat")
        shape = [1, sizes.value_heads, sizes.value_dim, 1]
        return (
            mb.mul(x=queries, y=scale, name=f"{name}_q_scaled"),
            keys,
            mb.reshape(x=values, shape=shape, name=f"{name}_v"),
        )

    def _unit(self, flat: Var, name: str) -> Var:
        sizes = self._sizes
        x = mb.reshape(x=flat, shape=[1, sizes.key_heads, sizes.key_dim, 1], name=f"{name}_heads")
        square = mb.reduce_sum(
            x=mb.mul(x=x, y=x, name=f"{name}_squares"), axes=[2], keep_dims=True, name=f"{name}_square"
        )
        length = mb.rsqrt(x=mb.add(x=square, y=NORM_EPS, name=f"{name}_safe"), name=f"{name}_inverse")
        x = mb.mul(x=x, y=length, name=f"{name}_unit")
        repeats = sizes.value_heads // sizes.key_heads
        if repeats == 1:
            return x
        x = mb.tile(
            x=mb.reshape(x=x, shape=[sizes.key_heads, 1, sizes.key_dim, 1], name=f"{name}_grouped"),
            reps=[1, repeats, 1, 1],
            name=f"{name}_tiled",
        )
        return mb.reshape(x=x, shape=[1, sizes.value_heads, sizes.key_dim, 1], name=f"{name}_shared")

    def _decay(self, a: Var, name: str) -> Var:
        """What is left of each head's state: exp(rate * softplus(a + bias)), with rates below 0."""
        shape = (1, self._sizes.value_heads, 1, 1)
        bias = self._weights.get(f"model_model_{name}_dt_bias", shape)
        rates = self._weights.get(f"model_model_{name}_rates", shape)
        name = f"{name}_decay"
        # softplus(x) = log(1 + exp(x))
        power = mb.exp(x=mb.add(x=a, y=bias, name=f"{name}_shifted"), name=f"{name}_power")
        soft = mb.log(x=mb.add(x=power, y=np.float16(1), name=f"{name}_one"), name=f"{name}_softplus")
        return mb.exp(x=mb.mul(x=soft, y=rates, name=f"{name}_exponent"), name=name)

    def _recur(self, state: Var, queries, keys, values, decay, rate, name: str) -> Var:
        """Corrects the state by the delta rule and reads it: [1, value_heads, value_dim, 1]."""
        name = f"{name}_delta"
        old = mb.read_state(input=state, name=f"{name}_old")
        old = mb.mul(x=old, y=decay, name=f"{name}_decayed")
        recalled = mb.matmul(x=old, y=keys, name=f"{name}_recalled")
        missing = mb.sub(x=values, y=recalled, name=f"{name}_missing")
        step = mb.mul(x=missing, y=rate, name=f"{name}_step")
        change = mb.matmul(x=step, y=keys, transpose_y=True, name=f"{name}_change")
        new = mb.add(x=old, y=change, name=f"{name}_new")
        new = mb.coreml_update_state(state=state, value=new, name=f"{name}_state")
        return mb.matmul(x=new, y=queries, name=f"{name}_read")

    def _gate(self, out: Var, z: Var, name: str) -> Var:
        """Norm per head, times SiLU of the gate: [1, value_heads * value_dim, 1, 1]."""
        sizes, shape = self._sizes, [1, self._sizes.value_heads, self._sizes.value_dim]
        gamma = self._weights.get(f"model_model_{name}_norm_weight", (sizes.value_dim,))
        heads = mb.reshape(x=out, shape=shape, name=f"{name}_out_heads")
        normed = rms_norm(heads, gamma, self._config.rms_eps, f"{name}_norm")
        gate = mb.silu(x=mb.reshape(x=z, shape=shape, name=f"{name}_z_heads"), name=f"{name}_gate")
        gated = mb.mul(x=normed, y=gate, name=f"{name}_gated")
        width = sizes.value_heads * sizes.value_dim
        return mb.reshape(x=gated, shape=[1, width, 1, 1], name=f"{name}_columns")
