"""All networks, and in which opset, precision and compression each is converted."""

from . import dense, generative, multimodal, speech, text, vision
from .recipes import EVERY, RECIPES, SOME

NETWORKS = {
    network.name: network
    for module in (vision, dense, generative, speech, text, multimodal)
    for network in module.NETWORKS
}
#: Each network takes one of these pairs, in turns, so that every opset sees every kind of network.
PLAIN = [
    [("ios15", "fp32"), ("ios17", "fp16")],
    [("ios17", "fp32"), ("ios18", "fp16")],
    [("ios18", "fp32"), ("ios15", "fp16")],
]
#: What coremltools says of networks that it can't convert, or why its conversion is another network.
LEFT_OUT = {
    "Bloom": "PyTorch convert function for op 'pythonop' not implemented (its GELU is a function with a gradient of its own)",
    "Mamba of transformers": "the traced model fails: expected padding to be a single integer value […], got padding=[]",
    "Mixtral": "PyTorch convert function for op 'histc' not implemented",
    "Swin V2": "PyTorch convert function for op 'zero_' not implemented",
    "V-Net": "output_padding is supported only for ConvTranspose1D or ConvTranspose2D",
    "R3D": "PyTorch convert function for op 'adaptive_avg_pool3d' not implemented",
    "EVA-02": "PyTorch convert function for op 'tensor_split' not implemented",
    "ResMLP": "PyTorch convert function for op 'addcmul' not implemented",
    "LSTM with projections": "Incorrect weights shape for lstm layer: Expected: 4. Received 5",
    "simple RNN in both directions": "Bidirectional simple RNN not supported",
    "FNet": "converts, but the angles of its Fourier transforms are computed in float32: results differ by 8e-6",
}
#: In the project's checks: small, and of every kind.
SAMPLE = ["squeezenet1_1", "unet", "gru_tagger", "llama", "segformer", "diffusion_unet", "encodec_decoder"]


#: Recipes that the sample takes of each network.
FEW = 4


def settings(name):
    """(opset, precision, recipe) of each conversion of a network; no recipe leaves weights as they are."""
    pair = PLAIN[list(NETWORKS).index(name) % len(PLAIN)]
    chosen = [(opset, precision, None) for opset, precision in pair]
    recipes = RECIPES if name in EVERY else SOME.get(name, [])
    precision = EVERY.get(name, "fp16")
    return chosen + [(RECIPES[recipe][0], precision, recipe) for recipe in recipes]
