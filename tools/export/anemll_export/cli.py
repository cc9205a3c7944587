"""The command line: a checkpoint or random weights in, a directory in ANEMLL's layout out."""

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from anemll_export.bytes_tokenizer import check_vocabulary, write_tokenizer
from anemll_export.config import LUT_MODES, PRESETS, ExportOptions, ModelConfig, read_model_config
from anemll_export.errors import ExportError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
TOKENIZER_HELP = "tokenizer directory (the checkpoint; for random weights, one token per byte)"
# Command-line options that name a size of a random model, and the size each one names.
SIZES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")


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
    options.check_fits(config)
    tokenizer = args.tokenizer or args.checkpoint
    if tokenizer is None:
        check_vocabulary(config.vocab)
    # Progress bars of passes that do nothing would bury our own lines.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # Imported late: coremltools takes seconds, and mistakes above should not wait for it.
    from anemll_export.meta import meta_yaml
    from anemll_export.package import export_packages, head_part_sizes

    _make_directory(args.output)
    export_packages(config, options, source, args.output, print)
    sizes = head_part_sizes(config.vocab, options.head_parts)
    name = args.name or (args.checkpoint or args.output).resolve().name
    meta = meta_yaml(name, args.license, options, sizes)
    (args.output / "meta.yaml").write_text(meta, encoding="utf-8")
    kind = {"model_type": "qwen3", "tokenizer_class": "Qwen2Tokenizer"}
    (args.output / "config.json").write_text(json.dumps(kind, indent=2) + "\n", encoding="utf-8")
    if tokenizer is None:
        write_tokenizer(args.output, options.context)
    else:
        _copy_tokenizer(tokenizer, args.output)


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
    return _random_config(args, given), RandomWeights(args.seed)


def _random_config(args: argparse.Namespace, given: dict[str, int]) -> ModelConfig:
    if args.preset:
        return replace(PRESETS[args.preset], **given, tied=not args.untied)
    missing = [f"--{name.replace('_', '-')}" for name in SIZES if name not in given]
    if missing:
        raise ExportError(f"`--random` also needs {', '.join(missing)}, or a `--preset`")
    return ModelConfig(**given, tied=not args.untied)


def _options(args: argparse.Namespace) -> ExportOptions:
    return ExportOptions(
        context=args.context,
        window=args.window,
        chunks=args.chunks,
        head_parts=args.head_parts,
        lut_embeddings=args.lut_embeddings,
        lut_ffn=args.lut_ffn,
        lut_lmhead=args.lut_lmhead,
        lut_mode=args.lut_mode,
        prefix=args.prefix,
    )


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anemll_export",
        description="Export a Qwen 3 checkpoint, or random weights, to Core ML packages.",
    )
    parser.add_argument("output", type=Path, help="directory to write")
    parser.add_argument("--checkpoint", type=Path, help="Hugging Face checkpoint directory")
    parser.add_argument("--tokenizer", type=Path, help=TOKENIZER_HELP)
    parser.add_argument("--name", help="model name for meta.yaml (default: the directory's)")
    parser.add_argument("--license", default="unspecified", help="the weights' licence for meta.yaml")
    _add_layout(parser.add_argument_group("layout"))
    _add_random(parser.add_argument_group("random weights"))
    return parser


def _add_layout(group):
    group.add_argument("--context", type=int, default=512, help="positions in the cache (512)")
    group.add_argument("--window", type=int, default=64, help="positions per prefill (64)")
    group.add_argument("--chunks", type=int, default=1, help="packages the layers go to (1)")
    group.add_argument("--head-parts", type=int, default=16, help="logits outputs (16)")
    for part in ("embeddings", "ffn", "lmhead"):
        group.add_argument(
            f"--lut-{part}", type=_lut, default=None, metavar="BITS", help="4, 6, 8 or none (none)"
        )
    group.add_argument("--lut-mode", choices=LUT_MODES, default="kmeans", help="(kmeans)")
    group.add_argument("--prefix", default="qwen", help="file name prefix (qwen)")


def _add_random(group):
    group.add_argument("--random", action="store_true", help="use seeded random weights")
    group.add_argument("--preset", choices=sorted(PRESETS), help="sizes of a known model")
    group.add_argument("--untied", action="store_true", help="give the LM head its own weights")
    group.add_argument("--seed", type=int, default=0, help="seed of the weights (0)")
    for name in SIZES:
        group.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
