"""Choices of an export, checked before any work is done."""

from dataclasses import dataclass, replace

from anemll_export.config import LINEAR, SLIDING, ModelConfig
from anemll_export.errors import ExportError

LUT_BITS = (4, 6, 8)
LUT_MODES = ("kmeans", "quantile", "uniform")
LAYOUTS = ("anemll", "apple")
INPUT_NAMES = ("inputIds,causalMask", "input_ids,causal_mask")
UPDATE_MASKS = ("prefill", "infer", "all")


@dataclass(frozen=True)
class ExportOptions:
    """Choices of one export. LUT widths are bits per weight; None keeps fp16."""

    context: int = 512
    window: int = 64
    chunks: int = 1
    head_parts: int | None = None  # None: as many as ANEMLL gives the family
    head_sizes: tuple[int, ...] = ()  # rows of each part, instead of equal ones
    lut_embeddings: int | None = None
    lut_ffn: int | None = None
    lut_lmhead: int | None = None
    lut_mode: str = "kmeans"
    prefix: str | None = None  # None: the family's
    layout: str = "anemll"
    input_names: str = INPUT_NAMES[0]  # of the `apple` layout
    monolithic: bool = False
    argmax: bool = False
    split_functions: bool = False  # `prefill` and `infer` in packages of their own
    split_rotate: bool = False  # the rotating functions in packages of their own
    single_cache: bool = False  # sliding layers keep every position too
    per_chunk_state: bool = False
    state_rows: int | None = None  # positions of the cache; None: the context
    update_mask: str | None = None  # the functions whose place in the cache a mask tells
    static_prefill: bool = False  # `prefill` writes the cache's first rows, wherever it is
    full_prefill: bool = False  # the last `prefill` gives all rows, normed, for the head

    def __post_init__(self):
        for name in ("context", "window", "chunks"):
            if getattr(self, name) < 1:
                raise ExportError(f"`{name}` is {getattr(self, name)}; it must be at least 1")
        if self.context % self.window:
            raise ExportError(
                f"context {self.context} is not a multiple of window {self.window}; the last window "
                "of a long prompt would not fit into the cache"
            )
        for name in ("lut_embeddings", "lut_ffn", "lut_lmhead"):
            self._check_choice(name, (None, *LUT_BITS))
        self._check_choice("lut_mode", LUT_MODES)
        self._check_choice("layout", LAYOUTS)
        self._check_choice("input_names", INPUT_NAMES)
        self._check_choice("update_mask", (None, *UPDATE_MASKS))
        if self.state_rows is not None and self.state_rows < self.context:
            raise ExportError(f"a state of {self.state_rows} rows cannot hold {self.context} positions")
        self._check_combinations()

    @property
    def rows(self) -> int:
        """Positions that the cache has room for."""
        return self.state_rows or self.context

    def masks(self, function: str) -> bool:
        """Whether `prefill` or `infer` is told its place in the cache by a mask."""
        return self.update_mask in (function, "all")

    def check_fits(self, model: ModelConfig):
        """Raises ExportError where these choices do not suit the model's sizes."""
        if self.chunks > model.layers:
            raise ExportError(
                f"{self.chunks} chunks for {model.layers} layers would leave chunks empty; "
                "use fewer chunks"
            )
        parts = self.parts(model)
        if not 1 <= parts <= model.vocab:
            raise ExportError(
                f"a vocabulary of {model.vocab} cannot be split into {parts} parts; "
                "use fewer head parts"
            )
        if self.head_sizes and (min(self.head_sizes) < 1 or sum(self.head_sizes) != model.vocab):
            raise ExportError(
                f"head parts of {self.head_sizes} rows do not make up a vocabulary of {model.vocab}"
            )
        self._check_kinds(model)

    def fit(self, model: ModelConfig) -> ModelConfig:
        """The model as these choices have it: no sliding window reaches back beyond the context."""
        if model.sliding_window is None or model.sliding_window <= self.context:
            return model
        return replace(model, sliding_window=self.context)

    def parts(self, model: ModelConfig) -> int:
        """Number of parts of the LM head."""
        if self.head_sizes:
            return len(self.head_sizes)
        return model.family.head_parts if self.head_parts is None else self.head_parts

    def _check_choice(self, name: str, choices: tuple):
        if getattr(self, name) not in choices:
            raise ExportError(f"`{name}` is `{getattr(self, name)}`; choose one of {choices}")

    def _check_combinations(self):
        chunked = self.chunks > 1 or self.split_functions or self.full_prefill
        if self.monolithic and (chunked or self.split_rotate):
            raise ExportError("a monolithic export is one package with one head; leave out the splits")
        if self.update_mask and self.rows != self.context:
            raise ExportError("an update mask spans the context; leave out `--state-rows`")
        if self.static_prefill and self.masks("prefill"):
            raise ExportError("a prefill with an update mask is not static; choose one of the two")
        if self.layout == "apple" and (
            chunked or self.monolithic or self.argmax or self.update_mask or self.state_rows
            or self.static_prefill
        ):
            raise ExportError("the `apple` layout is one function; it has no chunks, parts or masks")

    def _check_kinds(self, model: ModelConfig):
        sliding, linear = SLIDING in model.layer_kinds, LINEAR in model.layer_kinds
        if (sliding or linear) and (self.layout == "apple" or self.update_mask or self.state_rows):
            raise ExportError(f"{model.family.label} has caches of its own kinds: only plain layouts")
        if (self.single_cache or self.split_rotate) and not sliding:
            raise ExportError("`--single-cache` and `--split-rotate` are for sliding-window models")
        if linear and (self.window > 1 or self.monolithic):
            raise ExportError(
                f"{model.family.label} takes one position at a time, in chunks; give `--window 1`"
            )
        if sliding and not self.single_cache and model.sliding_window % self.window:
            raise ExportError(
                f"a sliding window of {model.sliding_window} is not a multiple of window {self.window}"
            )
        if sliding and self.split_functions:
            raise ExportError("for sliding-window models, `--split-rotate` is the split there is")
