"""Encoders: one network of PyTorch as a Core ML package for us, and in ONNX for the peers."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from . import ours
from .language import TOOLS, run_here
from .subject import Comparison, Subject

PEERS = ("onnxruntime", "openvino")
#: Names of networks, with what makes them.
NETWORKS = ("mobilenet_v2", "resnet50", "minilm", "bert_base")
TOKENS = 128


@dataclass(frozen=True)
class Files:
    """One network, converted."""

    onnx: Path
    fp32: Path
    fp16: Path


def network(name):
    """A network as `tools/networks` has them, at its usual size."""
    from networks.network import Network, image, tokens

    def text(layers, hidden, heads):
        import transformers as t

        sizes = dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads)
        config = t.BertConfig(**sizes, intermediate_size=4 * hidden, attn_implementation="eager")
        build = lambda: t.BertModel(config)
        last = lambda module, ids: module(ids).last_hidden_state
        return Network(name, build, tokens(TOKENS, config.vocab_size), last)

    if name == "minilm":
        return text(6, 384, 12)
    if name == "bert_base":
        return text(12, 768, 12)
    from torchvision import models

    return Network(name, lambda: getattr(models, name)(weights=None), image(224))


def convert(folder, name):
    """Converts a network, unless that was done before."""
    files = Files(folder / f"{name}.onnx", folder / f"{name}-fp32.mlpackage", folder / f"{name}-fp16.mlpackage")
    if all(path.exists() for path in (files.onnx, files.fp32, files.fp16)):
        return files
    sys.path.insert(0, str(TOOLS / "networks"))
    import torch
    from networks import convert, weights
    from networks.network import Plain

    torch.manual_seed(20)
    torch.backends.mha.set_fastpath_enabled(False)
    found = network(name)
    module = found.build().eval()
    weights.randomize(module)
    plain = Plain(module, found.call).eval().requires_grad_(False)
    weights.calibrate(plain, found.inputs)
    samples = tuple(value.sample(seed=i) for i, value in enumerate(found.inputs))
    names = [value.name for value in found.inputs]
    torch.onnx.export(plain, samples, files.onnx, input_names=names, output_names=["y0"], dynamo=False)
    program = convert.traced(found, plain)
    for precision, path in (("fp32", files.fp32), ("fp16", files.fp16)):
        convert.convert(found, program, 1, "ios17", precision).save(str(path))
    return files


def comparison(folder, name, repeat, threads, program):
    files = convert(folder, name)
    subjects = [our_subject(files, precision, repeat, threads, program) for precision in ("fp32", "fp16")]
    there = [peer for peer in PEERS if importlib.util.find_spec(peer)]
    subjects += [peer_subject(files, peer, repeat, threads) for peer in there]
    return Comparison(name, tuple(subjects), "ms", less_is_better=True)


def our_subject(files, precision, repeat, threads, program):
    def measure():
        report = ours.bench(program, getattr(files, precision), threads, "--repeat", repeat)
        return {"fastest": report["latency_ms"]["min"], "median": report["latency_ms"]["p50"]}

    return Subject(f"candle-coreml {precision}", measure, is_ours=True)


def peer_subject(files, peer, repeat, threads):
    command = [sys.executable, "-m", "suite.onnx_peer", peer, files.onnx.resolve()]
    command += ["--threads", threads, "--repeat", repeat]
    return Subject(peer, lambda: run_here(command))
