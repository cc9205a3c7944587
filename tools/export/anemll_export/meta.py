"""Names of the packages and `meta.yaml`, as ANEMLL 0.3.4 lays them out.

The names in `meta.yaml` end in `.mlmodelc`, what Apple's compiler makes of the packages, and the
chunks are named once without their suffix.
"""

from anemll_export.config import ExportOptions

LAYOUT_VERSION = "0.3.4"


def embeddings_name(options: ExportOptions) -> str:
    """File stem of the embeddings package."""
    return f"{options.prefix}_embeddings{_lut_suffix(options.lut_embeddings)}"


def head_name(options: ExportOptions) -> str:
    """File stem of the LM head package."""
    return f"{options.prefix}_lm_head{_lut_suffix(options.lut_lmhead)}"


def chunks_name(options: ExportOptions) -> str:
    """File stem that all chunk packages share."""
    return f"{options.prefix}_FFN_PF{_lut_suffix(options.lut_ffn)}"


def chunk_name(options: ExportOptions, number: int) -> str:
    """File stem of chunk `number`, counted from 0."""
    return f"{chunks_name(options)}_chunk_{number + 1:02}of{options.chunks:02}"


def meta_yaml(name: str, licence: str, options: ExportOptions, head_sizes: list[int]) -> str:
    """The text of `meta.yaml` for a model of that name and licence.

    Head parts of unequal sizes are listed as `lm_head_chunk_sizes`, which later ANEMLL versions
    write; equal ones need no list.
    """
    lines = [
        "model_info:",
        f"  name: anemll-{name}-ctx{options.context}",
        f"  version: {LAYOUT_VERSION}",
        "  description: |",
        f"    {name} as Core ML packages",
        f"    Context length: {options.context}",
        f"    Batch size: {options.window}",
        f"    Chunks: {options.chunks}",
        f"  license: {licence}",
        "  author: candle-coreml",
        "  framework: Core ML",
        "  language: Python",
        "  architecture: qwen3",
        "  parameters:",
    ]
    lines += [f"    {key}: {value}" for key, value in _parameters(options, head_sizes).items()]
    return "\n".join(lines) + "\n"


def _parameters(options: ExportOptions, head_sizes: list[int]) -> dict[str, object]:
    parameters = {
        "context_length": options.context,
        "batch_size": options.window,
        "lut_embeddings": options.lut_embeddings or "none",
        "lut_ffn": options.lut_ffn or "none",
        "lut_lmhead": options.lut_lmhead or "none",
        "num_chunks": options.chunks,
        "model_prefix": options.prefix,
        "embeddings": f"{embeddings_name(options)}.mlmodelc",
        "lm_head": f"{head_name(options)}.mlmodelc",
        "ffn": f"{chunks_name(options)}.mlmodelc",
        "split_lm_head": options.head_parts,
    }
    if len(set(head_sizes)) > 1:
        parameters["vocab_size"] = sum(head_sizes)
        parameters["lm_head_chunk_sizes"] = head_sizes
    return parameters


def _lut_suffix(bits: int | None) -> str:
    return f"_lut{bits}" if bits else ""
