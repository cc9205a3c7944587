"""Names of the packages and `meta.yaml`, as ANEMLL 0.3.5 lays them out.

The names in `meta.yaml` end in `.mlmodelc`, what Apple's compiler makes of the packages, and the
chunks are named once, by the first of them.
"""

from anemll_export.config import LINEAR, SLIDING, ModelConfig
from anemll_export.functions import Step, steps
from anemll_export.options import ExportOptions

LAYOUT_VERSION = "0.3.5"
# What ANEMLL's hosts read of `recommended_sampling`, with the numbers they need all of.
SAMPLING_KEYS = ("do_sample", "temperature", "top_p", "top_k")


class Names:
    """File stems of the packages of an export."""

    def __init__(self, config: ModelConfig, options: ExportOptions):
        self._options = options
        self.prefix = options.prefix or config.family.prefix
        lut = _lut_suffix(options.lut_ffn)
        self.embeddings = f"{self.prefix}_embeddings{_lut_suffix(options.lut_embeddings)}"
        self.head = f"{self.prefix}_lm_head{_lut_suffix(options.lut_lmhead)}"
        self.monolithic = f"{self.prefix}_monolithic_full{lut}"
        self.apple = f"{self.prefix}{lut}"

    def chunks_of(self, step: Step) -> str:
        """The name that the packages holding this function share, with a place for the number."""
        lut, options = _lut_suffix(self._options.lut_ffn), self._options
        kind = "FFN_PF"
        if options.split_functions:
            kind = "prefill" if step.prefill else "FFN"
        rotating = "_rot" if options.split_rotate and step.rotate else ""
        return f"{self.prefix}_{kind}{lut}_chunk_{{:02}}of{options.chunks:02}{rotating}"

    def numbered(self, name: str, number: int) -> str:
        """The name of chunk `number`, counted from 0."""
        return name.format(number + 1)


def meta_yaml(
    name: str, licence: str, config: ModelConfig, options: ExportOptions, sizes: list[int], sampling: dict
) -> str:
    """The text of `meta.yaml` for a model of that name and licence.

    `sizes` are the rows of the LM head's parts, `sampling` the checkpoint's generation defaults.
    """
    packages = "Type: Monolithic" if options.monolithic else f"Chunks: {options.chunks}"
    lines = [
        "model_info:",
        f"  name: anemll-{name}-ctx{options.context}{'-monolithic' if options.monolithic else ''}",
        f"  version: {LAYOUT_VERSION}",
        "  description: |",
        f"    {name} as Core ML packages",
        f"    Context length: {options.context}",
        f"    Batch size: {options.window}",
        f"    {packages}",
        f"  license: {licence}",
        "  author: candle-coreml",
        "  framework: Core ML",
        "  language: Python",
        f"  architecture: {config.model_type}",
        *(["  model_type: monolithic"] if options.monolithic else []),
        "  parameters:",
    ]
    for key, value in _parameters(config, options, sizes).items():
        lines.append(f"    {key}: {_text(value)}")
    if options.monolithic:
        functions = [f"      - {step.name}" for step in steps(config, options)]
        lines += ["    functions:", *functions]
    lines += _sampling(sampling)
    return "\n".join(lines) + "\n"


def _parameters(config: ModelConfig, options: ExportOptions, sizes: list[int]) -> dict[str, object]:
    names = Names(config, options)
    files = _monolithic if options.monolithic else _components
    parameters = {"context_length": options.context, "batch_size": options.window}
    parameters |= files(config, options, names)
    parameters |= {"split_lm_head": len(sizes)}
    flags = {
        "argmax_in_model": options.argmax,
        "split_rotate": options.split_rotate,
        "update_mask_prefill": options.masks("prefill"),
        "prefill_dynamic_slice": not (options.masks("prefill") or options.static_prefill),
        "single_cache": options.single_cache,
        "per_chunk_state": options.per_chunk_state or LINEAR in config.layer_kinds,
        "infer_only": options.window == 1,
    }
    parameters |= {"vocab_size": config.vocab, "lm_head_chunk_sizes": sizes}
    if SLIDING in config.layer_kinds:
        parameters["sliding_window"] = config.sliding_window
    return parameters | {key: True for key, given in flags.items() if given}


def _components(config: ModelConfig, options: ExportOptions, names: Names) -> dict[str, object]:
    packages = [names.numbered(names.chunks_of(step), 0) for step in steps(config, options)]
    files = {"ffn": packages[0]}
    if packages[-1] != packages[0]:
        files["pf"] = packages[-1]
    return {
        "lut_embeddings": options.lut_embeddings or "none",
        "lut_ffn": options.lut_ffn or "none",
        "lut_lmhead": options.lut_lmhead or "none",
        "num_chunks": options.chunks,
        "model_prefix": names.prefix,
        "embeddings": f"{names.embeddings}.mlmodelc",
        "lm_head": f"{names.head}.mlmodelc",
        **{key: f"{name}.mlmodelc" for key, name in files.items()},
    }


def _monolithic(_: ModelConfig, options: ExportOptions, names: Names) -> dict[str, object]:
    """One width for all, and those of the ends where they differ."""
    luts = {"lut_bits": options.lut_ffn or "none"}
    for key in ("lut_embeddings", "lut_lmhead"):
        if getattr(options, key) != options.lut_ffn:
            luts[key] = getattr(options, key) or "none"
    return luts | {
        "model_prefix": names.prefix,
        "monolithic_model": f"{names.monolithic}.mlmodelc",
    }


def _sampling(defaults: dict) -> list[str]:
    """`recommended_sampling`, where a checkpoint's generation defaults ask for sampling."""
    found = {key: defaults[key] for key in SAMPLING_KEYS if defaults.get(key) is not None}
    if not found.get("do_sample"):
        return []
    return ["    recommended_sampling:", *(f"      {key}: {_text(v)}" for key, v in found.items())]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lut_suffix(bits: int | None) -> str:
    return f"_lut{bits}" if bits else ""
