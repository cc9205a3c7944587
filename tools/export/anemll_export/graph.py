"""The functions of an exported model, written with coremltools' MIL builder for iOS 18.

Shapes use S for the positions a function handles at once (the window in `prefill`, 1 in `infer`),
C for the context, H for the hidden size and D for the head dimension. All floats are fp16.
"""

from dataclasses import dataclass

import coremltools as ct
import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Var, get_new_symbol, types

from anemll_export.config import ModelConfig
from anemll_export.errors import ExportError
from anemll_export.palettize import Palettized

OPSET = ct.target.iOS18
STATE = "model_model_kv_cache_0"
INDEX_TYPES = {4: types.np_uint4_dtype, 6: types.np_uint6_dtype, 8: np.dtype(np.uint8)}
# The Neural Engine gathers by 16-bit indices; larger tables need 32 bits.
UINT16_ROWS = 1 << 16

Weight = np.ndarray | Palettized


@dataclass(frozen=True)
class Chunk:
    """A run of layers that becomes one package. `weights` are keyed as the constants are named."""

    config: ModelConfig
    context: int
    layers: range
    weights: dict[str, Weight]

    @property
    def is_last(self) -> bool:
        """Whether the final norm belongs to this chunk."""
        return self.layers.stop == self.config.layers


def to_fp16(name: str, values: np.ndarray) -> np.ndarray:
    """`values` as fp16; ExportError where one lies outside its range."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    if not np.isfinite(narrow).all():
        raise ExportError(f"weight `{name}` holds values that fp16 cannot; it needs rescaling first")
    return narrow


def embeddings_function(config: ModelConfig, window: int, table: Weight) -> Function:
    """`main` of the embeddings: `input_ids` i32 [1, S] to `hidden_states` [1, S, H]."""
    length = 1 if window == 1 else get_new_symbol()

    @mb.function(
        input_specs=[mb.TensorSpec(shape=(1, length), dtype=types.int32)], opset_version=OPSET
    )
    def main(input_ids):
        dense = _weight("embed_tokens_weight", table, (config.vocab, config.hidden))
        indices = _as_index(input_ids, config.vocab, "input_ids")
        return _gather(dense, indices, 0, "hidden_states")

    if window > 1:
        shapes = ct.EnumeratedShapes(shapes=[[1, 1], [1, window]], default=[1, 1])
        main.set_input_types((ct.TensorType(name="input_ids", shape=shapes, dtype=np.int32),))
    return main


def head_function(config: ModelConfig, parts: list[Weight], sizes: list[int]) -> Function:
    """`main` of the LM head: `hidden_states` [1, 1, H] to `logits1`... [1, 1, size of the part]."""

    @mb.function(
        input_specs=[mb.TensorSpec(shape=(1, 1, config.hidden), dtype=types.fp16)],
        opset_version=OPSET,
    )
    def main(hidden_states):
        image = _to_image(hidden_states, "head_input")
        outputs = []
        for number, (part, size) in enumerate(zip(parts, sizes, strict=True), start=1):
            kernel = _weight(f"lm_head_{number}_weight", part, (size, config.hidden, 1, 1))
            logits = mb.conv(x=image, weight=kernel, name=f"lm_head_{number}")
            outputs.append(_from_image(logits, f"logits{number}"))
        return tuple(outputs)

    return main


def chunk_function(chunk: Chunk, positions: int, prefill: bool) -> Function:
    """`prefill` or `infer` of a chunk; `positions` is S.

    Inputs: `hidden_states` [1, S, H], `position_ids` i32 [S], `causal_mask` [1, 1, S, C],
    `current_pos` i32 [1] and the state. Output: `output_hidden_states`, of shape [1, 1, H] in the
    last chunk and [1, S, H] in the others.
    """
    config = chunk.config
    cache_shape = (2 * config.layers, config.kv_heads, chunk.context, config.head_dim)

    @mb.function(
        input_specs=[
            mb.TensorSpec(shape=(1, positions, config.hidden), dtype=types.fp16),
            mb.TensorSpec(shape=(positions,), dtype=types.int32),
            mb.TensorSpec(shape=(1, 1, positions, chunk.context), dtype=types.fp16),
            mb.TensorSpec(shape=(1,), dtype=types.int32),
            mb.StateTensorSpec(shape=cache_shape, dtype=types.fp16),
        ],
        opset_version=OPSET,
    )
    def function(hidden_states, position_ids, causal_mask, current_pos, model_model_kv_cache_0):
        if not prefill:
            # Core ML wants every declared input read, and `infer` finds its place by `current_pos`.
            mb.identity(x=position_ids, name="position_ids_unused")
        builder = _LayerBuilder(
            chunk, positions, position_ids if prefill else current_pos, causal_mask, current_pos,
            model_model_kv_cache_0,
        )
        hidden = hidden_states
        for layer in chunk.layers:
            hidden = builder.layer(layer, hidden)
        return _chunk_output(chunk, hidden, prefill)

    return function


def _chunk_output(chunk: Chunk, hidden: Var, prefill: bool) -> Var:
    """Names the result. The last `prefill` is run for its cache alone, so one row stands for all."""
    name = "output_hidden_states"
    if not chunk.is_last:
        hidden.op.name = hidden.name = name
        return hidden
    if prefill:
        return _slice(hidden, 1, 0, 1, name)
    gamma = _weight("model_norm_weight", chunk.weights["model_norm_weight"], (chunk.config.hidden,))
    return _rms_norm(hidden, gamma, chunk.config.rms_eps, name)


class _LayerBuilder:
    """Writes layers one after another, all reading and writing the same state."""

    def __init__(self, chunk, positions, rope_positions, mask, current_pos, state):
        self._chunk, self._config, self._positions = chunk, chunk.config, positions
        self._mask, self._current_pos, self._state = mask, current_pos, state
        self._end = mb.add(x=current_pos, y=np.int32(positions), name="end_pos")
        self._cache = mb.read_state(input=state, name="kv_cache")
        index = _as_index(rope_positions, chunk.context, "rope")
        self._cos = self._rope_rows("cos", index)
        self._sin = self._rope_rows("sin", index)

    def layer(self, layer: int, hidden: Var) -> Var:
        """One decoder layer: [1, S, H] to [1, S, H]."""
        prefix = f"layers_{layer}"
        attended = self._attention(layer, self._norm(hidden, f"{prefix}_input_layernorm"))
        hidden = mb.add(x=hidden, y=attended, name=f"{prefix}_attention_residual")
        normed = self._norm(hidden, f"{prefix}_post_attention_layernorm")
        return mb.add(x=hidden, y=self._mlp(prefix, normed), name=f"{prefix}_output")

    def _attention(self, layer: int, x: Var) -> Var:
        config, prefix = self._config, f"layers_{layer}_self_attn"
        image = _to_image(x, f"{prefix}_input")
        queries = self._heads(image, f"{prefix}_q", config.heads)
        keys = self._heads(image, f"{prefix}_k", config.kv_heads)
        values = self._heads(image, f"{prefix}_v", config.kv_heads)
        queries = self._rotate(self._norm(queries, f"{prefix}_q_norm"), f"{prefix}_q_rotated")
        keys = self._rotate(self._norm(keys, f"{prefix}_k_norm"), f"{prefix}_k_rotated")
        self._store(layer, keys, f"{prefix}_k_cache")
        self._store(config.layers + layer, values, f"{prefix}_v_cache")
        all_keys = self._shared_row(layer, f"{prefix}_k_all")
        all_values = self._shared_row(config.layers + layer, f"{prefix}_v_all")
        return self._mix(prefix, queries, all_keys, all_values)

    def _mix(self, prefix: str, queries: Var, keys: Var, values: Var) -> Var:
        """Softmax attention over the whole context and the output projection, to [1, S, H]."""
        config, width = self._config, self._config.heads * self._config.head_dim
        scores = mb.matmul(x=queries, y=keys, transpose_y=True, name=f"{prefix}_products")
        scores = mb.mul(x=scores, y=np.float16(config.head_dim**-0.5), name=f"{prefix}_scores")
        scores = mb.add(x=scores, y=self._mask, name=f"{prefix}_masked")
        weights = mb.softmax(x=scores, axis=-1, name=f"{prefix}_weights")
        mixed = mb.matmul(x=weights, y=values, name=f"{prefix}_mixed")
        mixed = mb.transpose(x=mixed, perm=[0, 2, 1, 3], name=f"{prefix}_by_position")
        mixed = mb.reshape(x=mixed, shape=[1, self._positions, width], name=f"{prefix}_joined")
        mixed = mb.transpose(x=mixed, perm=[0, 2, 1], name=f"{prefix}_channels")
        kernel = self._weight(f"{prefix}_o_proj_weight", (config.hidden, width, 1))
        out = mb.conv(x=mixed, weight=kernel, name=f"{prefix}_o_proj")
        return mb.transpose(x=out, perm=[0, 2, 1], name=f"{prefix}_output")

    def _mlp(self, prefix: str, x: Var) -> Var:
        config, prefix = self._config, f"{prefix}_mlp"
        image = _to_image(x, f"{prefix}_input")
        wide = (config.ffn, config.hidden, 1, 1)
        gate = mb.conv(
            x=image, weight=self._weight(f"{prefix}_gate_proj_weight", wide), name=f"{prefix}_gate"
        )
        up = mb.conv(
            x=image, weight=self._weight(f"{prefix}_up_proj_weight", wide), name=f"{prefix}_up"
        )
        gated = mb.mul(x=mb.silu(x=gate, name=f"{prefix}_silu"), y=up, name=f"{prefix}_gated")
        kernel = self._weight(f"{prefix}_down_proj_weight", (config.hidden, config.ffn, 1, 1))
        return _from_image(mb.conv(x=gated, weight=kernel, name=f"{prefix}_down"), f"{prefix}_out")

    def _heads(self, image: Var, prefix: str, count: int) -> Var:
        """Projects [1, H, 1, S] to [1, count, S, D]."""
        config = self._config
        kernel = self._weight(
            f"{prefix}_proj_weight", (count * config.head_dim, config.hidden, 1, 1)
        )
        flat = mb.conv(x=image, weight=kernel, name=f"{prefix}_proj")
        split = mb.reshape(
            x=flat, shape=[1, count, config.head_dim, self._positions], name=f"{prefix}_split"
        )
        return mb.transpose(x=split, perm=[0, 1, 3, 2], name=f"{prefix}_heads")

    def _norm(self, x: Var, name: str) -> Var:
        gamma = self._weight(f"{name}_weight", (x.shape[-1],))
        return _rms_norm(x, gamma, self._config.rms_eps, name)

    def _rotate(self, x: Var, name: str) -> Var:
        """Rotary embedding of [1, heads, S, D]: the second half, negated, goes before the first."""
        half = self._config.head_dim // 2
        first = _slice(x, 3, 0, half, f"{name}_first")
        second = _slice(x, 3, half, 2 * half, f"{name}_second")
        negated = mb.mul(x=second, y=np.float16(-1), name=f"{name}_negated")
        swapped = mb.concat(values=[negated, first], axis=3, name=f"{name}_swapped")
        return mb.add(
            x=mb.mul(x=x, y=self._cos, name=f"{name}_cos"),
            y=mb.mul(x=swapped, y=self._sin, name=f"{name}_sin"),
            name=name,
        )

    def _store(self, row: int, update: Var, name: str):
        """Writes [1, kv_heads, S, D] to `row` of the cache, from `current_pos` on."""
        begin = mb.concat(
            values=[np.int32([row]), np.int32([0]), self._current_pos, np.int32([0])],
            axis=0,
            name=f"{name}_begin",
        )
        end = mb.concat(
            values=[np.int32([row + 1]), np.int32([0]), self._end, np.int32([0])],
            axis=0,
            name=f"{name}_end",
        )
        filled = mb.slice_update(
            x=self._cache,
            update=update,
            begin=begin,
            end=end,
            stride=[1] * 4,
            begin_mask=[False] * 4,
            end_mask=[False, True, False, True],
            squeeze_mask=[False] * 4,
            name=name,
        )
        self._cache = mb.coreml_update_state(state=self._state, value=filled, name=f"{name}_state")

    def _shared_row(self, row: int, name: str) -> Var:
        """Row `row` of the cache with each head repeated for its queries: [1, heads, C, D]."""
        config, context = self._config, self._chunk.context
        cached = _slice(self._cache, 0, row, row + 1, f"{name}_row")
        repeats = config.heads // config.kv_heads
        if repeats == 1:
            return cached
        cached = mb.squeeze(x=cached, axes=[0], name=f"{name}_squeezed")
        cached = mb.expand_dims(x=cached, axes=[1], name=f"{name}_grouped")
        cached = mb.tile(x=cached, reps=[1, repeats, 1, 1], name=f"{name}_tiled")
        return mb.reshape(x=cached, shape=[1, config.heads, context, config.head_dim], name=name)

    def _rope_rows(self, kind: str, index: Var) -> Var:
        """The rows of a rotary table at the positions at hand: [1, 1, S, D]."""
        table = _weight(f"rope_{kind}", self._chunk.weights[f"rope_{kind}"])
        rows = _gather(table, index, 1, f"rope_{kind}_rows")
        shape = [1, 1, self._positions, self._config.head_dim]
        return mb.reshape(x=rows, shape=shape, name=f"rope_{kind}_heads")

    def _weight(self, name: str, shape: tuple[int, ...]) -> Var:
        name = f"model_model_{name}"
        return _weight(name, self._chunk.weights[name], shape)


def _rms_norm(x: Var, gamma: Var, eps: float, name: str) -> Var:
    """RMSNorm over the last axis: joined with its negation, x has mean 0 and keeps its RMS."""
    axis, width = x.rank - 1, x.shape[-1]
    negated = mb.mul(x=x, y=np.float16(-1), name=f"{name}_negated")
    doubled = mb.concat(values=[x, negated], axis=axis, name=f"{name}_doubled")
    normed = mb.layer_norm(x=doubled, axes=[axis], epsilon=np.float16(eps), name=f"{name}_normed")
    return mb.mul(x=_slice(normed, axis, 0, width, f"{name}_half"), y=gamma, name=name)


def _slice(x: Var, axis: int, begin: int, end: int, name: str) -> Var:
    """`x` between `begin` and `end` on one axis, whole on the others."""
    whole = [other != axis for other in range(x.rank)]
    return mb.slice_by_index(
        x=x,
        begin=[0 if other != axis else begin for other in range(x.rank)],
        end=[x.shape[other] if other != axis else end for other in range(x.rank)],
        end_mask=whole,
        name=name,
    )


def _to_image(x: Var, name: str) -> Var:
    """[1, S, H] to [1, H, 1, S], the layout that convolutions want."""
    channels = mb.transpose(x=x, perm=[0, 2, 1], name=f"{name}_channels")
    return mb.expand_dims(x=channels, axes=[2], name=f"{name}_image")


def _from_image(image: Var, name: str) -> Var:
    """[1, H, 1, S] back to [1, S, H]."""
    channels = mb.squeeze(x=image, axes=[2], name=f"{name}_channels")
    return mb.transpose(x=channels, perm=[0, 2, 1], name=name)


def _as_index(x: Var, rows: int, name: str) -> Var:
    if rows > UINT16_ROWS:
        return x
    return mb.cast(x=x, dtype="uint16", name=f"{name}_uint16")


def _gather(table: Var, indices: Var, axis: int, name: str) -> Var:
    return mb.gather(
        x=table, indices=indices, axis=axis, batch_dims=0, validate_indices=False, name=name
    )


def _weight(name: str, weight: Weight, shape: tuple[int, ...] | None = None) -> Var:
    """A constant of the given shape; the same name in two functions shares one blob record."""
    if not isinstance(weight, Palettized):
        return _shared_const(name, weight if shape is None else weight.reshape(shape))
    groups, entries = weight.tables.shape
    lut_shape = (groups, *[1] * (len(shape) - 1), entries, 1)
    # A view, because the narrow types are uint8 with a mark on the dtype, which `astype` drops.
    indices = weight.indices.reshape(shape).view(INDEX_TYPES[weight.bits])
    return mb.constexpr_lut_to_dense(
        indices=_shared_const(f"{name}_indices", indices),
        lut=_shared_const(f"{name}_lut", weight.tables.reshape(lut_shape)),
        name=f"{name}_palettized",
    )


def _shared_const(name: str, value: np.ndarray) -> Var:
    var = mb.const(val=value, name=name)
    var.op.weight_id = name
    return var
