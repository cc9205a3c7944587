"""Writes the packages of an export, one component at a time to bound memory."""

import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil.converter import mil_convert
from coremltools.converters.mil.mil import Program

from anemll_export import weights as names
from anemll_export.config import ExportOptions, ModelConfig
from anemll_export.errors import ExportError
from anemll_export.graph import (
    OPSET,
    Chunk,
    Weight,
    chunk_function,
    embeddings_function,
    head_function,
    to_fp16,
)
from anemll_export.meta import chunk_name, embeddings_name, head_name
from anemll_export.palettize import GROUP_ROWS, palettize
from anemll_export.slim import share_constants

SPECIFICATION_VERSION = 9  # iOS 18, the first with states and several functions


def export_packages(config: ModelConfig, options: ExportOptions, source, directory: Path, report):
    """Writes embeddings, chunks and LM head into `directory`.

    `source` answers `get(name, shape)`; `report` is called with a line of progress per package.
    """
    options.check_fits(config)
    embedding = source.get(names.EMBEDDING, (config.vocab, config.hidden))
    _write_embeddings(config, options, embedding, directory, report)
    if not config.tied:
        embedding = source.get(names.HEAD, (config.vocab, config.hidden))
    _write_head(config, options, embedding, directory, report)
    del embedding
    for number, layers in enumerate(chunk_layers(config.layers, options.chunks)):
        _write_chunk(config, options, source, number, layers, directory, report)


def chunk_layers(layers: int, chunks: int) -> list[range]:
    """Layers of each chunk; the remainder goes to the first ones."""
    bounds = np.concatenate(([0], np.cumsum(_spread(layers, chunks)))).tolist()
    return [range(begin, end) for begin, end in zip(bounds, bounds[1:])]


def head_part_sizes(vocab: int, parts: int) -> list[int]:
    """Vocabulary rows of each LM head part, the remainder going to the first ones.

    Sizes stay multiples of the palettization group where the vocabulary is one, so that no part
    needs narrower groups.
    """
    if vocab % GROUP_ROWS == 0 and vocab // GROUP_ROWS >= parts:
        return [GROUP_ROWS * size for size in _spread(vocab // GROUP_ROWS, parts)]
    return _spread(vocab, parts)


def _spread(total: int, parts: int) -> list[int]:
    size, remainder = divmod(total, parts)
    return [size + (part < remainder) for part in range(parts)]


def rope_tables(config: ModelConfig, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines for every position: fp16 [1, context, head_dim], halves repeated."""
    exponents = np.arange(0, config.head_dim, 2) / config.head_dim
    angles = np.outer(np.arange(context), config.rope_theta**-exponents)
    angles = np.concatenate((angles, angles), axis=1)[None]
    return np.cos(angles).astype(np.float16), np.sin(angles).astype(np.float16)


def _compress(name: str, weight: np.ndarray, bits: int | None, mode: str) -> Weight:
    narrow = to_fp16(name, weight)
    if bits is None:
        return narrow
    return palettize(narrow.astype(np.float32), bits, mode)


def _write_embeddings(config, options, table, directory, report):
    weight = _compress(names.EMBEDDING, table, options.lut_embeddings, options.lut_mode)
    program = _program({"main": embeddings_function(config, options.window, weight)}, "main")
    notes = _notes(options, options.lut_embeddings)
    _save(program, directory / f"{embeddings_name(options)}.mlpackage", "embeddings", notes, report)


def _write_head(config, options, table, directory, report):
    sizes = head_part_sizes(config.vocab, options.head_parts)
    rows = np.split(table, np.cumsum(sizes)[:-1])
    parts = [_compress(names.HEAD, part, options.lut_lmhead, options.lut_mode) for part in rows]
    program = _program({"main": head_function(config, parts, sizes)}, "main")
    notes = _notes(options, options.lut_lmhead)
    _save(program, directory / f"{head_name(options)}.mlpackage", "LM head", notes, report)


def _write_chunk(config, options, source, number, layers, directory, report):
    weights = _chunk_weights(config, options, source, layers)
    chunk = Chunk(config, options.context, layers, weights)
    functions = {
        "infer": chunk_function(chunk, 1, prefill=False),
        "prefill": chunk_function(chunk, options.window, prefill=True),
    }
    notes = _notes(options, options.lut_ffn) | {
        "com.anemll.batch_size": str(options.window),
        "com.anemll.chunk_no": str(number + 1),
        "com.anemll.num_chunks": str(options.chunks),
    }
    path = directory / f"{chunk_name(options, number)}.mlpackage"
    _save(_program(functions, "infer"), path, "prefill and infer", notes, report)


def _chunk_weights(config, options, source, layers) -> dict[str, Weight]:
    cos, sin = rope_tables(config, options.context)
    weights: dict[str, Weight] = {"rope_cos": cos, "rope_sin": sin}
    for layer in layers:
        for name, shape in names.layer_shapes(config).items():
            full = f"model.layers.{layer}.{name}"
            bits = options.lut_ffn if len(shape) == 2 else None
            weight = _compress(full, source.get(full, shape), bits, options.lut_mode)
            weights[f"model_{full.replace('.', '_')}"] = weight
    if layers.stop == config.layers:
        norm = source.get(names.FINAL_NORM, (config.hidden,))
        weights["model_norm_weight"] = to_fp16(names.FINAL_NORM, norm)
    return weights


def _notes(options: ExportOptions, bits: int | None) -> dict[str, str]:
    notes = {"com.anemll.context_length": str(options.context)}
    if bits is not None:
        notes["com.anemll.lut_bits"] = str(bits)
    return notes


def _program(functions: dict, default: str) -> Program:
    program = Program()
    for name, function in functions.items():
        program.add_function(name, function)
    program.default_function_name = default
    program.export_as_multifunction = len(functions) > 1
    # The graph is written in its final form; passes would only cost time on large weights.
    program.skip_all_passes = True
    return program


def _save(program: Program, path: Path, what: str, notes: dict[str, str], report):
    model = mil_convert(
        program,
        convert_from="milinternal",
        convert_to="mlprogram",
        specification_version=SPECIFICATION_VERSION,
        minimum_deployment_target=OPSET,
        compute_units=ct.ComputeUnit.CPU_AND_NE,
        skip_model_load=True,
    )
    model.short_description = f"Qwen 3 {what}, in ANEMLL's layout"
    model.author = "candle-coreml anemll_export"
    model.user_defined_metadata.update(notes)
    if path.exists():
        shutil.rmtree(path)
    try:
        model.save(str(path))
        share_constants(path)
    except OSError as error:
        raise ExportError(f"cannot write `{path}`: {error}") from error
    report(f"wrote {path.name}")
