"""The command line: a checkpoint or random weights in, a directory in ANEMLL's layout out."""

import argparse
import json
import os
import shutil
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from anemll_export.bytes_tokenizer import check_vocabulary, write_tokenizer
from anemll_export.config import PRESETS, SIZES, ModelConfig, read_model_config
from anemll_export.errors import ExportError
from anemll_export.families import FAMILIES
from anemll_export.options import INPUT_NAMES, LAYOUTS, LUT_MODES, UPDATE_MASKS, ExportOptions

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
TOKENIZER_HELP = "tokenizer directory (the checkpoint; for random weights, one token per byte)"
# Families whose sizes the options below tell in full; others need a checkpoint's configuration.
PLAIN_FAMILIES = ("qwen3", "qwen2", "llama", "mistral")


def main(arguments: list[str] | None = None) -> int:
    """Runs the export; returns the exit code and prints failures as one line."""
    args = _parser().parse_args(arguments)
    try:
        _export(args)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _export(args: argparse.Namespace):
    options = _options(args)
    config, source = _model(args)
    config = options.fit(config)
    options.check_fits(config)
    tokenizer = args.tokenizer or args.checkpoint
    if tokenizer is None:
        check_vocabulary(config.vocab)
    # Progress bars of passes that do nothing would bury our own lines.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Imported late: coremltools takes seconds, and mistakes above should not wait for it.
    from anemll_export.package import Exporter

    _make_directory(args.output)
    Exporter(config, options, source, args.output, print).write()
    if tokenizer is None:
        write_tokenizer(args.output, options.context)
    else:
        _copy_tokenizer(tokenizer, args.output)
    _describe(args, config, options)


def _describe(args: argparse.Namespace, config: ModelConfig, options: ExportOptions):
    """Writes `config.json`, and `meta.yaml` where the layout has one."""
    from anemll_export.meta import meta_yaml
    from anemll_export.package import head_part_sizes

    family = config.family
    kind = {"model_type": family.model_type, "tokenizer_class": family.tokenizer_class}
    (args.output / "config.json").write_text(json.dumps(kind, indent=2) + "\n", encoding="utf-8")
    if options.layout == "apple":
        return
    name = args.name or (args.checkpoint or args.output).resolve().name
    sizes, sampling = head_part_sizes(config, options), _generation_defaults(args.output)
    meta = meta_yaml(name, args.license, config, options, sizes, sampling)
    (args.output / "meta.yaml").write_text(meta, encoding="utf-8")


def _generation_defaults(directory: Path) -> dict:
    path = directory / "generation_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ExportError(f"`{path}` is not valid JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _model(args: argparse.Namespace) -> tuple[ModelConfig, object]:
    from anemll_export.weights import CheckpointWeights, RandomWeights

    given = {name: getattr(args, name) for name in SIZES if getattr(args, name) is not None}
    if args.checkpoint is not None:
        if args.random or args.preset or given or args.untied:
            raise ExportError(
                "a checkpoint brings its own sizes; leave out `--random`, `--preset`, `--untied` "
                "and the sizes, or the checkpoint"
            )
        return read_model_config(args.checkpoint), CheckpointWeights(args.checkpoint)
    if not args.random:
        raise ExportError("give a checkpoint directory, or `--random` for random weights")
    config = _random_config(args, given)
    return config, RandomWeights(config, args.seed)


def _random_config(args: argparse.Namespace, given: dict[str, int]) -> ModelConfig:
    if args.preset:
        return replace(PRESETS[args.preset], **given, tied=not args.untied)
    missing = [f"--{name.replace('_', '-')}" for name in SIZES if name not in given]
    if missing:
        raise ExportError(f"`--random` also needs {', '.join(missing)}, or a `--preset`")
    bias = FAMILIES[args.family].qkv_bias
    return ModelConfig(**given, tied=not args.untied, model_type=args.family, qkv_bias=bias)


def _options(args: argparse.Namespace) -> ExportOptions:
    return ExportOptions(**{field.name: getattr(args, field.name) for field in fields(ExportOptions)})


def _make_directory(path: Path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot create `{path}`: {error.strerror}") from error


def _copy_tokenizer(source: Path, target: Path):
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    if not (target / "tokenizer.json").exists():
        print(f"note: `{source}` has no tokenizer.json; the export has none either")


def _lut(text: str) -> int | None:
    try:
        return None if text == "none" else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"`{text}` is neither a number nor `none`") from error


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"`{text}` is no list of numbers like 100,100,59") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anemll_export",
        description="Export a checkpoint, or random weights, to Core ML packages in ANEMLL's layouts.",
    )
    parser.add_argument("output", type=Path, help="directory to write")
    parser.add_argument("--checkpoint", type=Path, help="Hugging Face checkpoint directory")
    parser.add_argument("--tokenizer", type=Path, help=TOKENIZER_HELP)
    parser.add_argument("--name", help="model name for meta.yaml (default: the directory's)")
    parser.add_argument("--license", default="unspecified", help="the weights' licence for meta.yaml")
    _add_sizes(parser.add_argument_group("sizes and weights"))
    _add_packages(parser.add_argument_group("packages"))
    _add_functions(parser.add_argument_group("functions and states"))
    _add_random(parser.add_argument_group("random weights"))
    return parser


def _add_sizes(group):
    group.add_argument("--context", type=int, default=512, help="positions of a conversation (512)")
    group.add_argument(
        "--window", type=int, default=64, help="positions per prefill (64); 1: no prefill function"
    )
    group.add_argument("--head-parts", type=int, metavar="N", help="logits outputs (as ANEMLL has)")
    group.add_argument(
        "--head-sizes", type=_sizes, default=(), metavar="N,N", help="rows of each logits output"
    )
    for part in ("embeddings", "ffn", "lmhead"):
        group.add_argument(
            f"--lut-{part}", type=_lut, default=None, metavar="BITS", help="4, 6, 8 or none (none)"
        )
    group.add_argument("--lut-mode", choices=LUT_MODES, default="kmeans", help="(kmeans)")


def _add_packages(group):
    flag = partial(group.add_argument, action="store_true")
    group.add_argument(
        "--layout", choices=LAYOUTS, default=LAYOUTS[0],
        help="ANEMLL's packages, or one as Apple converts models (anemll)",
    )
    group.add_argument(
        "--input-names", choices=INPUT_NAMES, default=INPUT_NAMES[0],
        help=f"of the apple layout ({INPUT_NAMES[0]})",
    )
    group.add_argument("--prefix", help="file name prefix (as ANEMLL chooses it)")
    group.add_argument("--chunks", type=int, default=1, help="packages the layers go to (1)")
    flag("--monolithic", help="embeddings, layers and LM head in one package")
    flag("--split-functions", help="prefill and infer in packages of their own")
    flag("--split-rotate", help="Gemma: the rotating functions in packages of their own")


def _add_functions(group):
    flag = partial(group.add_argument, action="store_true")
    flag("--argmax", help="the LM head tells the best token of each part, not logits")
    flag("--static-prefill", help="prefill writes the cache's first rows: good for a first window only")
    flag("--full-prefill", help="the last prefill gives every position, normed, and the head takes it")
    flag("--per-chunk-state", help="a chunk's state holds its own layers only")
    flag("--single-cache", help="Gemma: sliding layers keep every position too; no rotation")
    group.add_argument("--state-rows", type=int, metavar="N", help="rows of the cache (the context)")
    group.add_argument(
        "--update-mask", choices=UPDATE_MASKS, help="functions that are told their place by a mask"
    )


def _add_random(group):
    group.add_argument("--random", action="store_true", help="use seeded random weights")
    group.add_argument("--preset", choices=sorted(PRESETS), help="sizes of a known model")
    group.add_argument("--family", choices=PLAIN_FAMILIES, default="qwen3", help="(qwen3)")
    group.add_argument("--untied", action="store_true", help="give the LM head its own weights")
    group.add_argument("--seed", type=int, default=0, help="seed of the weights (0)")
    for name in SIZES:
        group.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
