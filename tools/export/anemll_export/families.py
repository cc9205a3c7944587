"""What sets the families of models apart, as data: the graph writer knows no family by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Traits of the models that share a `model_type` in Hugging Face's `config.json`."""

    label: str
    prefix: str  # of the packages' names, as ANEMLL chooses it
    model_type: str  # in the export's own `config.json`, which hosts pick a tokenizer by
    tokenizer_class: str
    head_parts: int = 16  # outputs of the LM head
    qkv_bias: bool = False  # unless the configuration says otherwise
    qk_norm: bool = False
    gated_attention: bool = False  # the query projection brings a gate for attention's output
    sandwich_norms: bool = False  # a norm after attention and MLP as well as before
    norm_offset: float = 0.0  # norm factors are stored less this number
    activation: str = "silu"
    scaled_embeddings: bool = False  # by the square root of the hidden size
    tied: bool = False  # where the configuration does not say
    prefill_logits: bool = True  # a monolithic `prefill` gives logits, not a hidden state


FAMILIES = {
    "qwen3": Family("Qwen 3", "qwen", "qwen3", "Qwen2Tokenizer", qk_norm=True, tied=True),
    "qwen2": Family("Qwen 2.5", "qwen25", "qwen2", "Qwen2Tokenizer", qkv_bias=True),
    "llama": Family("Llama", "llama", "llama", "LlamaTokenizer", head_parts=8),
    "mistral": Family("Mistral", "mistral", "mistral", "LlamaTokenizer", head_parts=8),
    "gemma3_text": Family(
        "Gemma 3", "gemma3", "gemma3_text", "GemmaTokenizer", qk_norm=True, sandwich_norms=True,
        norm_offset=1.0, activation="gelu", scaled_embeddings=True, tied=True, prefill_logits=False,
    ),
    "qwen3_5_text": Family(
        "Qwen 3.5", "qwen35", "qwen3_5", "Qwen2Tokenizer", qk_norm=True, gated_attention=True,
        norm_offset=1.0,
    ),
}
# Checkpoints of models that also see keep the language model's configuration inside theirs.
NESTED = {"gemma3": "gemma3_text", "qwen3_5": "qwen3_5_text"}
