"""Every way in which coremltools.optimize.coreml compresses weights, and which networks go that way."""

import coremltools.optimize as cto

c = cto.coreml

#: Smaller weights stay as they are.
SMALLEST = 600
LAYERS = ("conv", "conv_transpose", "linear", "gather")
#: Those that blocks or parts of a group can be pruned of.
STRUCTURED = ("conv", "linear")


def of(layers, config):
    """The layers' own weights, not what the converter computed from weights, such as embeddings of positions."""
    return c.OptimizationConfig(op_type_configs=dict.fromkeys(layers, config))


def palettize(**options):
    config = c.OpPalettizerConfig(weight_threshold=SMALLEST, **options)
    return lambda model, joint=False: c.palettize_weights(model, of(LAYERS, config), joint_compression=joint)


def quantize(**options):
    config = c.OpLinearQuantizerConfig(weight_threshold=SMALLEST, **options)
    return lambda model, joint=False: c.linear_quantize_weights(
        model, of(LAYERS, config), joint_compression=joint
    )


def prune(config, layers=LAYERS):
    return lambda model, joint=False: c.prune_weights(model, of(layers, config), joint_compression=joint)


def both(first, second):
    """One after the other: what the first left is compressed again."""
    return lambda model: second(first(model), joint=True)


def magnitude(**options):
    return c.OpMagnitudePrunerConfig(weight_threshold=SMALLEST, **options)


GROUPED = dict(granularity="per_grouped_channel", group_size=16)
SPARSE = prune(magnitude(target_sparsity=0.6))

#: name: (the oldest opset that has it, what it does)
RECIPES = {
    "palettize 1 bit": ("ios16", palettize(mode="kmeans", nbits=1)),
    "palettize 2 bits": ("ios16", palettize(mode="kmeans", nbits=2)),
    "palettize 3 bits": ("ios18", palettize(mode="kmeans", nbits=3)),
    "palettize 4 bits": ("ios16", palettize(mode="kmeans", nbits=4)),
    "palettize 6 bits": ("ios16", palettize(mode="kmeans", nbits=6)),
    "palettize 8 bits": ("ios16", palettize(mode="kmeans", nbits=8)),
    "palettize 4 bits uniform": ("ios16", palettize(mode="uniform", nbits=4)),
    "palettize 2 bits, groups": ("ios18", palettize(mode="kmeans", nbits=2, **GROUPED)),
    "palettize 4 bits, groups": ("ios18", palettize(mode="kmeans", nbits=4, **GROUPED)),
    "palettize 3 bits, groups of inputs": (
        "ios18",
        palettize(mode="kmeans", nbits=3, channel_axis=1, **GROUPED),
    ),
    "palettize 4 bits, scales": ("ios18", palettize(mode="kmeans", nbits=4, enable_per_channel_scale=True)),
    "palettize 4 bits, groups, scales": (
        "ios18",
        palettize(mode="kmeans", nbits=4, enable_per_channel_scale=True, **GROUPED),
    ),
    "palettize 4 bits, vectors of 2": ("ios18", palettize(mode="kmeans", nbits=4, cluster_dim=2)),
    "palettize 6 bits, vectors of 4": ("ios18", palettize(mode="kmeans", nbits=6, cluster_dim=4)),
    "palettize 4 bits, tables of int8": (
        "ios18",
        both(
            palettize(mode="kmeans", nbits=4),
            quantize(mode="linear_symmetric", dtype="int8", granularity="per_tensor"),
        ),
    ),
    "linear int8": ("ios16", quantize(mode="linear_symmetric")),
    "linear int8, asymmetric": ("ios16", quantize(mode="linear", dtype="int8")),
    "linear uint8": ("ios16", quantize(mode="linear", dtype="uint8")),
    "linear int8, tensors": ("ios16", quantize(mode="linear_symmetric", granularity="per_tensor")),
    "linear int8, blocks": (
        "ios18",
        quantize(mode="linear_symmetric", dtype="int8", granularity="per_block", block_size=16),
    ),
    "linear int4": ("ios18", quantize(mode="linear_symmetric", dtype="int4")),
    "linear uint4": ("ios18", quantize(mode="linear", dtype="uint4")),
    "linear int4, tensors": (
        "ios18",
        quantize(mode="linear_symmetric", dtype="int4", granularity="per_tensor"),
    ),
    "linear int4, blocks": (
        "ios18",
        quantize(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=32),
    ),
    "linear uint4, blocks": (
        "ios18",
        quantize(mode="linear", dtype="uint4", granularity="per_block", block_size=16),
    ),
    "prune by threshold": (
        "ios16",
        prune(
            c.OpThresholdPrunerConfig(
                threshold=0.03, minimum_sparsity_percentile=0.05, weight_threshold=SMALLEST
            )
        ),
    ),
    "prune by magnitude": ("ios16", prune(magnitude(target_sparsity=0.75))),
    "prune blocks": ("ios16", prune(magnitude(target_sparsity=0.5, block_size=2), STRUCTURED)),
    "prune 3 of 4": ("ios16", prune(magnitude(n_m_ratio=(3, 4)), STRUCTURED)),
    "prune, palettize 4 bits": ("ios18", both(SPARSE, palettize(mode="kmeans", nbits=4))),
    "prune, palettize 2 bits, groups": ("ios18", both(SPARSE, palettize(mode="kmeans", nbits=2, **GROUPED))),
    "prune, linear int8": ("ios18", both(SPARSE, quantize(mode="linear_symmetric"))),
    "prune, linear int4, blocks": (
        "ios18",
        both(SPARSE, quantize(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=16)),
    ),
}

#: Networks that take all recipes, each in the precision named here; others take those of `SOME`.
EVERY = {"mobilenet_v2": "fp16", "bert": "fp32", "unet": "fp16"}
SOME = {
    "resnet18": ["palettize 6 bits", "linear int8", "prune by magnitude"],
    "deit": ["palettize 4 bits, groups", "linear int4, blocks"],
    "whisper_encoder": ["palettize 4 bits", "linear int8"],
    "diffusion_unet": ["palettize 6 bits", "palettize 4 bits, groups, scales", "prune, palettize 4 bits"],
    "clip_text": ["linear int4", "palettize 8 bits"],
    "llama": ["linear int4, blocks", "palettize 4 bits, groups"],
    "style_transfer": ["palettize 4 bits", "linear int8, blocks"],
    "yolo": ["linear int8", "palettize 6 bits"],
    "efficientnet_b0": ["linear uint8", "prune by magnitude"],
    "segformer": ["palettize 8 bits", "linear int8, tensors"],
}
