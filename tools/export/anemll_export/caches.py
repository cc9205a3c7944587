"""Key-value caches: where a layer's keys and values go, and what attention reads back.

Each answers `update(layer, keys, values, name)`, with keys and values [1, kv_heads, S, D] of the
positions at hand, by all keys and values that attention sees, [1, kv_heads, n, D], and the mask to
add to the scores. C is the context, W the sliding window, D the head dimension.
"""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Var

from anemll_export.config import FULL, SLIDING, ModelConfig
from anemll_export.mil import named, offsets, part, replace_rows

STATE = "model_model_kv_cache_0"
LOCAL, GLOBAL = "model_model_kv_cache_local", "model_model_kv_cache_global"
KEYS, VALUES = "keyCache", "valueCache"


def cache_shape(config: ModelConfig, layers: list[int] | range, rows: int) -> tuple[int, ...]:
    """Keys of all layers, then values of all layers."""
    return (2 * len(layers), config.kv_heads, rows, config.head_dim)


class Cache:
    """A state [2 * layers, kv_heads, rows, D] that is written from `current_pos` on.

    With an update mask [1, 1, C, S] the mask tells the place of each position instead; a static one
    is always written from row 0 on, and so good for the first window only.
    """

    def __init__(
        self, state: Var, layers: list[int] | range, inputs: dict[str, Var], context: int, static: bool
    ):
        self._state, self._layers, self._context = state, list(layers), context
        self._mask = inputs["causal_mask"]
        self._positions = self._mask.shape[2]
        self._update_mask = inputs.get("update_mask")
        self._begin = 0 if static else inputs["current_pos"]
        self._cache = mb.read_state(input=state, name=f"{state.name}_read")
        if self._update_mask is not None:
            self._kept = self._rows_kept()
        elif static:
            self._end = self._positions
        else:
            size = np.int32(self._positions)
            self._end = mb.add(x=self._begin, y=size, name=f"{state.name}_end")

    def update(self, layer: int, keys: Var, values: Var, name: str) -> tuple[Var, Var, Var]:
        """Writes both halves, then reads them back."""
        row = self._layers.index(layer)
        self._store(row, keys, f"{name}_k_cache")
        self._store(len(self._layers) + row, values, f"{name}_v_cache")
        return (
            self._row(row, f"{name}_k_all"),
            self._row(len(self._layers) + row, f"{name}_v_all"),
            self._mask,
        )

    def _store(self, row: int, new: Var, name: str):
        if self._update_mask is None:
            begin = offsets([row, 0, self._begin, 0], f"{name}_begin")
            end = offsets([row + 1, 0, self._end, 0], f"{name}_end")
            self._write(new, begin, end, [False, True, False, True], name)
            return
        placed = self._placed(new, f"{name}_placed")
        old = mb.mul(x=self._row(row, f"{name}_old"), y=self._kept, name=f"{name}_kept")
        self._write_row(row, mb.add(x=old, y=placed, name=f"{name}_row"), name)

    def _write_row(self, row: int, new: Var, name: str):
        self._write(new, [row, 0, 0, 0], [row + 1, 0, 0, 0], [False, True, True, True], name)

    def _write(self, new: Var, begin, end, whole: list[bool], name: str):
        filled = replace_rows(self._cache, new, begin, end, whole, name)
        self._cache = mb.coreml_update_state(state=self._state, value=filled, name=f"{name}_state")

    def _row(self, row: int, name: str) -> Var:
        """One layer's keys or values at every position of the context."""
        cached = part(self._cache, 0, row, row + 1, f"{name}_row")
        if cached.shape[2] == self._context:
            return cached
        return part(cached, 2, 0, self._context, f"{name}_context")

    def _rows_kept(self) -> Var:
        """1 for every row of the cache that no position is written to: [1, 1, C, 1]."""
        name = f"{self._state.name}_kept"
        written = mb.reduce_sum(x=self._update_mask, axes=[3], keep_dims=True, name=f"{name}_not")
        return mb.sub(x=np.float16(1), y=written, name=name)

    def _placed(self, new: Var, name: str) -> Var:
        """[1, kv_heads, S, D] spread over the context: zeros but where the mask places them."""
        if self._positions == 1:
            return mb.mul(x=new, y=self._update_mask, name=name)
        repeats = [1, new.shape[1], 1, 1]
        mask = mb.tile(x=self._update_mask, reps=repeats, name=f"{name}_mask")
        return mb.matmul(x=mask, y=new, name=name)


class LocalCache(Cache):
    """The last W positions. Before W it fills up; from W on (`rotate`) it shifts and appends."""

    def __init__(self, state, layers, inputs, window: int, static: bool, rotate: bool):
        super().__init__(state, layers, inputs, window, static)
        self._rotate = rotate
        # Until the window is full, rows are positions; then all of them are visible, and so are
        # the mask's first W columns.
        self._mask = part(self._mask, 3, 0, window, f"{state.name}_mask")

    def _store(self, row: int, new: Var, name: str):
        if not self._rotate:
            super()._store(row, new, name)
            return
        old = self._row(row, f"{name}_old")
        kept = part(old, 2, self._positions, self._context, f"{name}_kept")
        shifted = mb.concat(values=[kept, new], axis=2, name=f"{name}_shifted")
        self._write_row(row, shifted, name)


class SplitCache:
    """A local cache for sliding layers and a global one for the others."""

    def __init__(self, config: ModelConfig, inputs: dict[str, Var], context: int, static, rotate):
        local, rest = config.of_kind(SLIDING), config.of_kind(FULL)
        self._config = config
        self._caches = {
            SLIDING: LocalCache(inputs[LOCAL], local, inputs, config.sliding_window, static, rotate),
            FULL: Cache(inputs[GLOBAL], rest, inputs, context, static),
        }

    def update(self, layer: int, keys: Var, values: Var, name: str) -> tuple[Var, Var, Var]:
        """Goes to the cache of the layer's kind."""
        return self._caches[self._config.kind(layer)].update(layer, keys, values, name)


class WindowedCache(Cache):
    """One cache with every position, where sliding layers see only the last W."""

    def __init__(self, config: ModelConfig, state, inputs, context: int, static: bool, positions: Var):
        super().__init__(state, range(config.layers), inputs, context, static)
        self._config = config
        self._local_mask = self._recent(positions)

    def update(self, layer: int, keys: Var, values: Var, name: str) -> tuple[Var, Var, Var]:
        """As for all layers, with the sliding ones' mask."""
        keys, values, mask = super().update(layer, keys, values, name)
        return keys, values, self._local_mask if self._config.kind(layer) == SLIDING else mask

    def _recent(self, positions: Var) -> Var:
        """The mask, closed as well for columns that lie W or more before their row's position."""
        end = np.int32(self._context)
        columns = mb.range_1d(start=np.int32(0), end=end, step=np.int32(1), name="local_columns")
        oldest = mb.sub(x=positions, y=np.int32(self._config.sliding_window), name="local_oldest")
        oldest = mb.reshape(x=oldest, shape=[1, 1, -1, 1], name="local_oldest_rows")
        passed = mb.less_equal(x=columns, y=oldest, name="local_passed")
        return mb.select(cond=passed, a=np.float16(-np.inf), b=self._mask, name="local_mask")


class PositionCache:
    """States of one layer each, [1, kv_heads, C, D], written through an update mask [1, 1, C, 1]."""

    def __init__(self, config: ModelConfig, inputs: dict[str, Var]):
        self._config, self._inputs = config, inputs

    @staticmethod
    def names(config: ModelConfig, layer: int) -> tuple[str, str]:
        """The states of a layer."""
        place = config.of_kind(FULL).index(layer)
        return f"model_model_kv_key_{place}", f"model_model_kv_val_{place}"

    def update(self, layer: int, keys: Var, values: Var, name: str) -> tuple[Var, Var, Var]:
        """Writes and reads both states."""
        key_state, value_state = self.names(self._config, layer)
        return (
            self._store(self._inputs[key_state], keys, f"{name}_k_cache"),
            self._store(self._inputs[value_state], values, f"{name}_v_cache"),
            self._inputs["causal_mask"],
        )

    def _store(self, state: Var, new: Var, name: str) -> Var:
        mask = self._inputs["update_mask"]
        kept = mb.sub(x=np.float16(1), y=mask, name=f"{name}_free")
        old = mb.mul(x=mb.read_state(input=state, name=f"{name}_old"), y=kept, name=f"{name}_kept")
        placed = mb.mul(x=new, y=mask, name=f"{name}_placed")
        filled = mb.add(x=old, y=placed, name=name)
        return mb.coreml_update_state(state=state, value=filled, name=f"{name}_state")


class AppleCache:
    """States of keys and of values, [layers, 1, kv_heads, C, D]; the mask's width tells the place.

    The mask is [1, 1, S, past + S]: new keys go behind the past, and attention sees both.
    """

    def __init__(self, keys: Var, values: Var, mask: Var):
        self._states = {"k": keys, "v": values}
        self._read = {kind: mb.read_state(input=s, name=f"{s.name}_read") for kind, s in self._states.items()}
        self._mask = mask
        self.begin, self.end = _span(mask)

    def update(self, layer: int, keys: Var, values: Var, name: str) -> tuple[Var, Var, Var]:
        """Appends, then reads all there is."""
        return (
            self._store("k", layer, keys, f"{name}_k_cache"),
            self._store("v", layer, values, f"{name}_v_cache"),
            self._mask,
        )

    def _store(self, kind: str, layer: int, new: Var, name: str) -> Var:
        new = mb.expand_dims(x=new, axes=[0], name=f"{name}_layer")
        begin = offsets([layer, 0, 0, self.begin, 0], f"{name}_begin")
        end = offsets([layer + 1, 0, 0, self.end, 0], f"{name}_end")
        whole = [False, True, True, False, True]
        filled = replace_rows(self._read[kind], new, begin, end, whole, name)
        cache = mb.coreml_update_state(state=self._states[kind], value=filled, name=f"{name}_state")
        self._read[kind] = cache
        row = mb.squeeze(x=part(cache, 0, layer, layer + 1, f"{name}_row"), axes=[0], name=f"{name}_rows")
        return mb.slice_by_index(
            x=row,
            begin=[0, 0, 0, 0],
            end=offsets([0, 0, self.end, 0], f"{name}_seen"),
            end_mask=[True, True, False, True],
            name=f"{name}_all",
        )


def _span(mask: Var) -> tuple[Var, Var]:
    """The positions at hand: from the past's length to the mask's width, int32 [1] each."""
    shape = mb.shape(x=mask, name="mask_shape")
    positions = mb.slice_by_index(x=shape, begin=[2], end=[3], name="positions")
    end = mb.slice_by_index(x=shape, begin=[3], end=[4], name="end_pos")
    return mb.sub(x=end, y=positions, name="past"), end
