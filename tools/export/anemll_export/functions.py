"""The functions of an exported model.

Shapes use S for the positions a function handles at once (the window in `prefill`, 1 in `infer`),
C for the context, V for the vocabulary and H for the hidden size.
"""

from dataclasses import dataclass

import coremltools as ct
import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Var, get_new_symbol

from anemll_export.caches import (
    GLOBAL,
    KEYS,
    LOCAL,
    STATE,
    VALUES,
    AppleCache,
    Cache,
    PositionCache,
    SplitCache,
    WindowedCache,
    cache_shape,
)
from anemll_export.config import FULL, LINEAR, SLIDING, ModelConfig
from anemll_export.delta import delta_states
from anemll_export.layers import Layers, Rotary, Weights
from anemll_export.mil import (
    Weight,
    as_index,
    from_image,
    gather,
    half,
    integers,
    named,
    new_function,
    part,
    state,
    to_image,
)
from anemll_export.options import ExportOptions

HIDDEN_IN, HIDDEN_OUT = "hidden_states", "output_hidden_states"


@dataclass(frozen=True)
class Chunk:
    """A run of layers that becomes one package. `weights` are keyed as the constants are named."""

    config: ModelConfig
    options: ExportOptions
    layers: range
    weights: dict[str, Weight]
    head_sizes: tuple[int, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether the final norm belongs to this chunk."""
        return self.layers.stop == self.config.layers


@dataclass(frozen=True)
class Step:
    """One of a chunk's functions: how many positions it takes, and how it treats them."""

    name: str
    positions: int
    prefill: bool = False
    rotate: bool = False
    update_mask: bool = False


def steps(config: ModelConfig, options: ExportOptions) -> list[Step]:
    """The functions that every chunk gets."""
    if LINEAR in config.layer_kinds:
        return [Step("main", 1, update_mask=True)]
    found = [Step("infer", 1, update_mask=options.masks("infer"))]
    if options.window > 1:
        masked = options.masks("prefill")
        found.append(Step("prefill", options.window, prefill=True, update_mask=masked))
    if rotates(config, options):
        found += [Step(f"{s.name}_rotate", s.positions, s.prefill, rotate=True) for s in found]
    return found


def rotates(config: ModelConfig, options: ExportOptions) -> bool:
    """Whether sliding layers forget: within the context, and in a cache of their own."""
    if SLIDING not in config.layer_kinds or options.single_cache:
        return False
    return config.sliding_window < options.context


def embeddings_function(config: ModelConfig, window: int, table: Weight) -> Function:
    """`main` of the embeddings: `input_ids` i32 [1, S] to `hidden_states` [1, S, H]."""
    length = 1 if window == 1 else get_new_symbol()

    def body(inputs):
        weights = Weights(config, {"model_model_embed_tokens_weight": table})
        return [_embed(config, weights, inputs["input_ids"], HIDDEN_IN)]

    function = new_function({"input_ids": integers(1, length)}, body)
    if window > 1:
        _enumerate(function, "input_ids", [[1, 1], [1, window]], np.int32)
    return function


def head_function(config: ModelConfig, chunk: Chunk) -> Function:
    """`main` of the LM head: `hidden_states` [1, 1, H] to logits [1, 1, size of the part].

    After a full prefill it takes [1, S, H] as well.
    """
    window = chunk.options.window if chunk.options.full_prefill else 1
    length = 1 if window == 1 else get_new_symbol()

    def body(inputs):
        weights = Weights(config, chunk.weights)
        return _head(chunk, weights, inputs[HIDDEN_IN], chunk.options.argmax)

    function = new_function({HIDDEN_IN: half(1, length, config.hidden)}, body)
    if window > 1:
        shapes = [[1, 1, config.hidden], [1, window, config.hidden]]
        _enumerate(function, HIDDEN_IN, shapes, np.float16)
    return function


def chunk_function(chunk: Chunk, step: Step) -> Function:
    """One function of a chunk, or of a whole model in a monolithic export.

    Inputs: `hidden_states` [1, S, H] or `input_ids` i32 [1, S], `position_ids` i32 [S],
    `causal_mask` [1, 1, S, C], `current_pos` i32 [1], maybe `update_mask` [1, 1, C, S], and the
    states. Output: `output_hidden_states`, or logits in a monolithic export.
    """
    config, options, size = chunk.config, chunk.options, step.positions
    if options.monolithic:
        inputs = {"input_ids": integers(1, size)}
    else:
        inputs = {HIDDEN_IN: half(1, size, config.hidden)}
    inputs |= {
        "position_ids": integers(size),
        "causal_mask": half(1, 1, size, options.context),
        "current_pos": integers(1),
    }
    if step.update_mask:
        inputs["update_mask"] = half(1, 1, options.context, size)
    inputs |= {name: state(shape) for name, shape in chunk_states(chunk).items()}
    return new_function(inputs, lambda values: _chunk_body(chunk, step, values))


def chunk_states(chunk: Chunk) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the states that a chunk declares."""
    config, options = chunk.config, chunk.options
    if LINEAR in config.layer_kinds:
        return _own_states(chunk)
    if SLIDING in config.layer_kinds and not options.single_cache:
        local, rest = config.of_kind(SLIDING), config.of_kind(FULL)
        return {
            LOCAL: cache_shape(config, local, config.sliding_window),
            GLOBAL: cache_shape(config, rest, options.context),
        }
    return {STATE: cache_shape(config, _cached_layers(chunk), options.rows)}


def _cached_layers(chunk: Chunk) -> range:
    return chunk.layers if chunk.options.per_chunk_state else range(chunk.config.layers)


def _own_states(chunk: Chunk) -> dict[str, tuple[int, ...]]:
    """States of each layer by itself: the linear layers' first."""
    config, found = chunk.config, {}
    for layer in chunk.layers:
        if config.kind(layer) == LINEAR:
            found |= delta_states(config, layer)
    shape = (1, config.kv_heads, chunk.options.context, config.head_dim)
    for layer in chunk.layers:
        if config.kind(layer) == FULL:
            found |= dict.fromkeys(PositionCache.names(config, layer), shape)
    return found


def _chunk_body(chunk: Chunk, step: Step, inputs: dict[str, Var]) -> list[Var]:
    config, options = chunk.config, chunk.options
    weights = Weights(config, chunk.weights)
    # `infer` finds its place by `current_pos` alone, as ANEMLL's does.
    positions = inputs["position_ids" if step.prefill else "current_pos"]
    cache = _cache(chunk, step, inputs, positions)
    rotary = Rotary(config, weights, positions, options.context)
    if options.monolithic:
        hidden = _embed(config, weights, inputs["input_ids"], "embedded")
    else:
        hidden = inputs[HIDDEN_IN]
    layers = Layers(config, weights, rotary, cache, inputs)
    for layer in chunk.layers:
        hidden = layers.write(layer, hidden)
    return _results(chunk, step, weights, hidden)


def _cache(chunk: Chunk, step: Step, inputs: dict[str, Var], positions: Var):
    config, context = chunk.config, chunk.options.context
    if LINEAR in config.layer_kinds:
        return PositionCache(config, inputs)
    static = step.prefill and chunk.options.static_prefill
    if SLIDING not in config.layer_kinds:
        return Cache(inputs[STATE], _cached_layers(chunk), inputs, context, static)
    if chunk.options.single_cache:
        return WindowedCache(config, inputs[STATE], inputs, context, static, positions)
    return SplitCache(config, inputs, context, static, step.rotate)


def _results(chunk: Chunk, step: Step, weights: Weights, hidden: Var) -> list[Var]:
    """The outputs: the hidden state of other chunks' input, or what the last layer ends in."""
    config, options = chunk.config, chunk.options
    if not chunk.is_last:
        return [named(hidden, HIDDEN_OUT)]
    if options.monolithic and (config.family.prefill_logits or not step.prefill):
        hidden = _final_norm(config, weights, hidden, "normed")
        return _head(chunk, weights, hidden, options.argmax and not step.prefill)
    if step.prefill and not options.full_prefill:
        # It is run for the cache alone, so one row stands for all.
        return [part(hidden, 1, 0, 1, HIDDEN_OUT)]
    return [_final_norm(config, weights, hidden, HIDDEN_OUT)]


def _final_norm(config: ModelConfig, weights: Weights, hidden: Var, name: str) -> Var:
    return named(weights.norm(hidden, "norm"), name)


def _embed(config: ModelConfig, weights: Weights, ids: Var, name: str) -> Var:
    """[1, S] to [1, S, H]."""
    table = weights.get("model_model_embed_tokens_weight", (config.vocab, config.hidden))
    rows = gather(table, as_index(ids, config.vocab, "ids"), 0, f"{name}_rows")
    if not config.family.scaled_embeddings:
        return named(rows, name)
    return mb.mul(x=rows, y=np.float16(config.hidden**0.5), name=name)


def _head(chunk: Chunk, weights: Weights, hidden: Var, argmax: bool) -> list[Var]:
    """Logits of every part of the vocabulary, or the best of each."""
    image = to_image(hidden, "head_input")
    logits = []
    for number, size in enumerate(chunk.head_sizes, start=1):
        kernel = weights.get(f"lm_head_{number}_weight", (size, chunk.config.hidden, 1, 1))
        scores = mb.conv(x=image, weight=kernel, name=f"lm_head_{number}")
        logits.append(from_image(scores, f"logits{number}"))
    return _argmax(logits) if argmax else logits


def _argmax(logits: list[Var]) -> list[Var]:
    """`argmax_idx` i32 [parts], each within its part, and `argmax_val` [parts]."""
    places, values = [], []
    for number, scores in enumerate(logits, start=1):
        name = f"best{number}"
        place = mb.reduce_argmax(x=scores, axis=2, keep_dims=True, name=f"{name}_place")
        value = mb.gather_along_axis(
            x=scores, indices=place, axis=2, validate_indices=False, name=f"{name}_value"
        )
        places.append(mb.reshape(x=place, shape=[1], name=f"{name}_index"))
        values.append(mb.reshape(x=value, shape=[1], name=f"{name}_score"))
    return [
        mb.concat(values=places, axis=0, name="argmax_idx"),
        mb.concat(values=values, axis=0, name="argmax_val"),
    ]


def apple_function(chunk: Chunk) -> Function:
    """`main` of a model in the layout of Apple's own conversions.

    Inputs: ids i32 [1, S] and a causal mask [1, 1, S, past + S], whose names are a choice, and the
    states `keyCache` and `valueCache` [layers, 1, kv_heads, C, D]. Output: `logits` [1, S, V].
    """
    config, options = chunk.config, chunk.options
    ids_name, mask_name = options.input_names.split(",")
    length, seen = get_new_symbol(), get_new_symbol()
    shape = (config.layers, 1, config.kv_heads, options.context, config.head_dim)
    inputs = {ids_name: integers(1, length), mask_name: half(1, 1, length, seen)}
    inputs |= {KEYS: state(shape), VALUES: state(shape)}
    function = new_function(
        inputs, lambda values: _apple_body(chunk, values, values[ids_name], values[mask_name])
    )
    length, seen = (ct.RangeDim(1, options.context, default=1) for _ in range(2))
    function.set_input_types((
        ct.TensorType(name=ids_name, shape=ct.Shape((1, length)), dtype=np.int32),
        ct.TensorType(name=mask_name, shape=ct.Shape((1, 1, length, seen)), dtype=np.float16),
    ))
    return function


def _apple_body(chunk: Chunk, inputs: dict[str, Var], ids: Var, mask: Var) -> list[Var]:
    config = chunk.config
    weights = Weights(config, chunk.weights)
    cache = AppleCache(inputs[KEYS], inputs[VALUES], mask)
    begin = mb.squeeze(x=cache.begin, axes=[0], name="first_position")
    end = mb.squeeze(x=cache.end, axes=[0], name="past_position")
    positions = mb.range_1d(start=begin, end=end, step=np.int32(1), name="positions_at_hand")
    rotary = Rotary(config, weights, positions, chunk.options.context)
    layers = Layers(config, weights, rotary, cache, inputs)
    hidden = _embed(config, weights, ids, "embedded")
    for layer in chunk.layers:
        hidden = layers.write(layer, hidden)
    hidden = _final_norm(config, weights, hidden, "normed")
    kernel = weights.get("lm_head_1_weight", (config.vocab, config.hidden, 1, 1))
    scores = mb.conv(x=to_image(hidden, "head_input"), weight=kernel, name="lm_head_1")
    return [from_image(scores, "logits")]


def _enumerate(function: Function, name: str, shapes: list, dtype):
    """Allows the shapes, the first of which is the default."""
    allowed = ct.EnumeratedShapes(shapes=shapes, default=shapes[0])
    function.set_input_types((ct.TensorType(name=name, shape=allowed, dtype=dtype),))
