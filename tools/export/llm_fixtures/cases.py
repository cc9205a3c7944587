"""The fixtures: which model in which layout, with sizes as small as their point allows."""

from dataclasses import dataclass, field

CONTEXT, WINDOW, SLIDING_WINDOW = 64, 8, 16
# Around the window, several windows, and one token short of the context.
LENGTHS = (1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 5, CONTEXT - 1)
# Around the sliding window as well.
SLIDING_LENGTHS = (*LENGTHS[:5], SLIDING_WINDOW - 1, SLIDING_WINDOW, SLIDING_WINDOW + 1, *LENGTHS[5:])
BYTES = 259
# Divides into groups of 8 rows; the last tokens stand for no text and are never likely.
GROUPED = 264

PLAIN = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "vocab_size": BYTES,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
QWEN3 = PLAIN | {"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
QWEN25 = QWEN3 | {"model_type": "qwen2", "head_dim": 8}
LLAMA = PLAIN | {
    "model_type": "llama",
    # Small numbers, so that all three ways of scaling a frequency are met within the context.
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 5_000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
MISTRAL = QWEN3 | {"model_type": "mistral", "num_key_value_heads": 1, "sliding_window": None}
GEMMA3 = PLAIN | {
    "model_type": "gemma3_text",
    "num_hidden_layers": 3,
    "sliding_window": SLIDING_WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 24,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1_000.0},
    },
}
SMALL_GEMMA3 = GEMMA3 | {
    "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
}
QWEN35 = PLAIN | {
    "model_type": "qwen3_5_text",
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5,
    },
}


@dataclass(frozen=True)
class Fixture:
    """A model's configuration and the choices of its export."""

    name: str
    model: dict
    options: tuple[str, ...] = ()
    lengths: tuple[int, ...] = LENGTHS
    window: int = WINDOW
    seed: int = 1
    generation: dict = field(default_factory=dict)  # added to `generation_config.json`


FIXTURES = (
    Fixture("qwen3-3chunks-lut6", QWEN3 | {"num_hidden_layers": 3, "vocab_size": GROUPED}, (
        "--chunks", "3", "--lut-ffn", "6", "--lut-lmhead", "6", "--head-sizes", "104,96,64",
    )),
    Fixture("qwen3-lut4", QWEN3 | {"vocab_size": GROUPED}, (
        "--lut-ffn", "4", "--lut-lmhead", "4", "--lut-embeddings", "8", "--head-parts", "3",
    )),
    Fixture("qwen3-split-functions", QWEN3, ("--split-functions", "--chunks", "2", "--head-parts", "2")),
    Fixture("qwen3-monolithic", QWEN3, ("--monolithic", "--head-parts", "4"), generation={
        "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95,
    }),
    Fixture("qwen3-argmax", QWEN3, ("--argmax", "--head-sizes", "90,90,79")),
    Fixture("qwen3-monolithic-argmax", QWEN3, ("--monolithic", "--argmax", "--head-parts", "4")),
    Fixture("qwen3-update-mask", QWEN3, ("--update-mask", "prefill", "--head-parts", "2")),
    Fixture("qwen3-old-split", QWEN3, ("--update-mask", "infer", "--split-functions", "--head-parts", "2")),
    Fixture("qwen3-static-prefill", QWEN3, ("--static-prefill", "--head-parts", "2")),
    Fixture("qwen3-infer-only", QWEN3, ("--chunks", "2", "--head-parts", "2"), window=1),
    Fixture("qwen3-full-prefill", QWEN3, ("--full-prefill", "--chunks", "2", "--head-parts", "2")),
    Fixture("qwen3-per-chunk-state", QWEN3, ("--per-chunk-state", "--chunks", "2", "--head-parts", "2")),
    Fixture("qwen25-2chunks", QWEN25, ("--chunks", "2", "--head-parts", "4")),
    Fixture("llama", LLAMA, ("--state-rows", "96")),
    Fixture("llama-monolithic", LLAMA, ("--monolithic",)),
    Fixture("apple-llama", LLAMA, ("--layout", "apple")),
    Fixture("apple-mistral", MISTRAL, ("--layout", "apple", "--input-names", "input_ids,causal_mask")),
    Fixture("gemma3", GEMMA3, ("--head-parts", "4"), SLIDING_LENGTHS),
    Fixture("gemma3-2chunks", GEMMA3, ("--chunks", "2", "--head-parts", "4"), SLIDING_LENGTHS),
    Fixture("gemma3-split-rotate", SMALL_GEMMA3, ("--split-rotate", "--head-parts", "4"), SLIDING_LENGTHS),
    Fixture("gemma3-static-prefill", SMALL_GEMMA3, ("--static-prefill", "--head-parts", "2"),
            SLIDING_LENGTHS),
    Fixture("gemma3-monolithic", SMALL_GEMMA3, ("--monolithic", "--head-parts", "4"), SLIDING_LENGTHS),
    Fixture("gemma3-argmax", SMALL_GEMMA3, ("--argmax", "--head-parts", "3"), SLIDING_LENGTHS),
    Fixture("gemma3-single-cache", GEMMA3, ("--single-cache", "--head-parts", "2"), SLIDING_LENGTHS),
    Fixture("qwen35-2chunks", QWEN35, ("--chunks", "2", "--head-parts", "4"), window=1),
)
