"""Writes the packages of an export, one component at a time to bound memory."""

import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
from coremltools.converters.mil.converter import mil_convert
from coremltools.converters.mil.mil import Program

from anemll_export import weights as names
from anemll_export.config import SLIDING, ModelConfig
from anemll_export.errors import ExportError
from anemll_export.functions import (
    Chunk,
    Step,
    apple_function,
    chunk_function,
    embeddings_function,
    head_function,
    steps,
)
from anemll_export.meta import Names
from anemll_export.mil import OPSET, Weight, to_fp16
from anemll_export.options import ExportOptions
from anemll_export.palettize import GROUP_ROWS, palettize
from anemll_export.rope import rope_tables
from anemll_export.slim import share_constants

SPECIFICATION_VERSION = 9  # iOS 18, the first with states and several functions


class Exporter:
    """Writes one export into a directory.

    `source` answers `get(name, shape)`; `report` is called with a line of progress per package.
    """

    def __init__(self, config: ModelConfig, options: ExportOptions, source, directory: Path, report):
        options.check_fits(config)
        self._config, self._options, self._source = config, options, source
        self._directory, self._report = directory, report
        self._names = Names(config, options)
        self._head_sizes = tuple(head_part_sizes(config, options))

    def write(self):
        """Writes all packages."""
        if self._options.layout == "apple":
            self._write_apple()
        elif self._options.monolithic:
            self._write_monolithic()
        else:
            self._write_embeddings()
            self._write_head()
            for number, layers in enumerate(chunk_layers(self._config.layers, self._options.chunks)):
                self._write_chunk(number, layers)

    def _write_embeddings(self):
        table = self._embedding()[names.constant_name(names.EMBEDDING)]
        function = embeddings_function(self._config, self._options.window, table)
        bits = self._options.lut_embeddings
        self._save({"main": function}, self._names.embeddings, "embeddings", self._notes(bits))

    def _write_head(self):
        chunk = self._chunk(range(0), self._head())
        function = head_function(self._config, chunk)
        notes = self._notes(self._options.lut_lmhead)
        self._save({"main": function}, self._names.head, "LM head", notes)

    def _write_chunk(self, number: int, layers: range):
        chunk = self._chunk(layers, self._layer_weights(layers))
        notes = self._notes(self._options.lut_ffn) | {
            "com.anemll.batch_size": str(self._options.window),
            "com.anemll.chunk_no": str(number + 1),
            "com.anemll.num_chunks": str(self._options.chunks),
        }
        for name, members in self._groups().items():
            alone = self._options.split_functions
            functions = {"main" if alone else s.name: chunk_function(chunk, s) for s in members}
            what = " and ".join(step.name for step in members)
            self._save(functions, self._names.numbered(name, number), what, notes)

    def _groups(self) -> dict[str, list[Step]]:
        """The functions of a chunk by the name of the package that they go to."""
        found: dict[str, list[Step]] = {}
        for step in steps(self._config, self._options):
            found.setdefault(self._names.chunks_of(step), []).append(step)
        return found

    def _write_monolithic(self):
        chunk = self._whole()
        functions = {step.name: chunk_function(chunk, step) for step in self._steps()}
        notes = self._notes(self._options.lut_ffn)
        self._save(functions, self._names.monolithic, "whole model", notes)

    def _write_apple(self):
        functions = {"main": apple_function(self._whole())}
        self._save(functions, self._names.apple, "whole model", self._notes(self._options.lut_ffn))

    def _steps(self) -> list[Step]:
        return steps(self._config, self._options)

    def _whole(self) -> Chunk:
        layers = range(self._config.layers)
        return self._chunk(layers, self._embedding() | self._head() | self._layer_weights(layers))

    def _chunk(self, layers: range, weights: dict[str, Weight]) -> Chunk:
        return Chunk(self._config, self._options, layers, weights, self._head_sizes)

    def _embedding(self) -> dict[str, Weight]:
        shape = (self._config.vocab, self._config.hidden)
        return self._weight(names.EMBEDDING, shape, self._options.lut_embeddings)

    def _head(self) -> dict[str, Weight]:
        name = names.EMBEDDING if self._config.tied else names.HEAD
        table = self._source.get(name, (self._config.vocab, self._config.hidden))
        rows = np.split(table, np.cumsum(self._head_sizes)[:-1])
        return {
            f"lm_head_{number}_weight": self._compressed(name, part, self._options.lut_lmhead)
            for number, part in enumerate(rows, start=1)
        }

    def _layer_weights(self, layers: range) -> dict[str, Weight]:
        weights = self._rope_tables()
        for layer in layers:
            for name, shape in names.layer_shapes(self._config, layer).items():
                weights |= self._weight(f"model.layers.{layer}.{name}", shape, self._options.lut_ffn)
        if layers.stop == self._config.layers:
            weights |= self._weight(names.FINAL_NORM, (self._config.hidden,), None)
        return weights

    def _rope_tables(self) -> dict[str, Weight]:
        config, context = self._config, self._options.context
        tables = {"rope": rope_tables(config.turned, context, config.rope_theta, config.rope_scaling)}
        if SLIDING in config.layer_kinds:
            tables["rope_local"] = rope_tables(config.turned, context, config.local_theta)
        return {
            f"{name}_{kind}": table
            for name, pair in tables.items()
            for kind, table in zip(("cos", "sin"), pair)
        }

    def _weight(self, name: str, shape: tuple[int, ...], bits: int | None) -> dict[str, Weight]:
        values = names.as_exported(self._config, name, self._source.get(name, shape))
        return {names.constant_name(name): self._compressed(name, values, bits)}

    def _compressed(self, name: str, values: np.ndarray, bits: int | None) -> Weight:
        """Matrices become tables and indices; factors, biases and kernels stay fp16."""
        narrow = to_fp16(name, values)
        if bits is None or values.ndim != 2:
            return narrow
        return palettize(narrow.astype(np.float32), bits, self._options.lut_mode)

    def _notes(self, bits: int | None) -> dict[str, str]:
        notes = {"com.anemll.context_length": str(self._options.context)}
        if bits is not None:
            notes["com.anemll.lut_bits"] = str(bits)
        return notes

    def _save(self, functions: dict, name: str, what: str, notes: dict[str, str]):
        path = self._directory / f"{name}.mlpackage"
        model = mil_convert(
            _program(functions),
            convert_from="milinternal",
            convert_to="mlprogram",
            specification_version=SPECIFICATION_VERSION,
            minimum_deployment_target=OPSET,
            compute_units=ct.ComputeUnit.CPU_AND_NE,
            skip_model_load=True,
        )
        layout = "Apple's" if self._options.layout == "apple" else "ANEMLL's"
        model.short_description = f"{self._config.family.label} {what}, in {layout} layout"
        model.author = "candle-coreml anemll_export"
        model.user_defined_metadata.update(notes)
        if path.exists():
            shutil.rmtree(path)
        try:
            model.save(str(path))
            share_constants(path)
        except OSError as error:
            raise ExportError(f"cannot write `{path}`: {error}") from error
        self._report(f"wrote {path.name}")


def chunk_layers(layers: int, chunks: int) -> list[range]:
    """Layers of each chunk; the remainder goes to the first ones."""
    bounds = np.concatenate(([0], np.cumsum(_spread(layers, chunks)))).tolist()
    return [range(begin, end) for begin, end in zip(bounds, bounds[1:])]


def head_part_sizes(config: ModelConfig, options: ExportOptions) -> list[int]:
    """Vocabulary rows of each LM head part, the remainder going to the first ones.

    Sizes stay multiples of the palettization group where the vocabulary is one, so that no part
    needs narrower groups.
    """
    if options.layout == "apple":
        return [config.vocab]
    if options.head_sizes:
        return list(options.head_sizes)
    vocab, parts = config.vocab, options.parts(config)
    if vocab % GROUP_ROWS == 0 and vocab // GROUP_ROWS >= parts:
        return [GROUP_ROWS * size for size in _spread(vocab // GROUP_ROWS, parts)]
    return _spread(vocab, parts)


def _spread(total: int, parts: int) -> list[int]:
    size, remainder = divmod(total, parts)
    return [size + (part < remainder) for part in range(parts)]


def _program(functions: dict) -> Program:
    program = Program()
    for name, function in functions.items():
        program.add_function(name, function)
    program.default_function_name = next(iter(functions))
    program.export_as_multifunction = list(functions) != ["main"]
    # The graph is written in its final form; passes would only cost time on large weights.
    program.skip_all_passes = True
    return program
