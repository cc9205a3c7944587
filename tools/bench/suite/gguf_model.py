"""GGUF files of random weights: blocks of each kind as llama.cpp and candle read them."""

import numpy as np

#: Bytes of a block, weights in it, and where its scales of 16 bits are.
BLOCKS = {"Q8_0": (34, 32, (0,)), "Q6_K": (210, 256, (208,)), "Q4_K": (144, 256, (0, 2))}
#: So small that sums over a layer stay far from where numbers end.
SCALE = np.float16(1e-4)
SEED = 20


def of_kind(folder, name, sizes, kind):
    """The file of a model whose matrices are all of one kind, made if it is not there."""
    file = folder / f"{name}-{kind}.gguf"
    if not file.exists():
        begun = file.with_suffix(".part")
        write(begun, sizes, kind)
        begun.rename(file)
    return file.resolve()


def blocks(rng, rows, columns, kind):
    """A matrix of random blocks: bytes of shape [rows, bytes of a row]."""
    size, weights, scales = BLOCKS[kind]
    if columns % weights:
        raise ValueError(f"{columns} columns are no multiple of {weights}, a block of {kind}")
    data = rng.integers(0, 256, (rows, columns // weights, size), dtype=np.uint8)
    for place in scales:
        data[..., place : place + 2] = np.frombuffer(SCALE.tobytes(), np.uint8)
    return data.reshape(rows, -1)


def matrices(sizes):
    """Names, rows and columns of the matrices of a layer."""
    heads, kv_heads = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    return {
        "attn_q": (heads, sizes.hidden),
        "attn_k": (kv_heads, sizes.hidden),
        "attn_v": (kv_heads, sizes.hidden),
        "attn_output": (sizes.hidden, heads),
        "ffn_gate": (sizes.ffn, sizes.hidden),
        "ffn_up": (sizes.ffn, sizes.hidden),
        "ffn_down": (sizes.hidden, sizes.ffn),
    }


def norms(sizes):
    return {
        "attn_norm": sizes.hidden,
        "ffn_norm": sizes.hidden,
        "attn_q_norm": sizes.head_dim,
        "attn_k_norm": sizes.head_dim,
    }


def write(file, sizes, kind):
    # Who only compares encoders needs no such package.
    import gguf

    rng = np.random.default_rng(SEED)
    writer = gguf.GGUFWriter(file, "qwen3")
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.hidden)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.ffn)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(sizes.vocab)
    writer.add_tokenizer_model("none")

    def matrix(name, rows, columns):
        # The writer tells the shape in weights from that in bytes and the kind.
        data = blocks(rng, rows, columns, kind)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=gguf.GGMLQuantizationType[kind])

    def norm(name, size):
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))

    # Without a head of its own, the model takes the embeddings for it.
    matrix("token_embd", sizes.vocab, sizes.hidden)
    norm("output_norm", sizes.hidden)
    for layer in range(sizes.layers):
        for name, (rows, columns) in matrices(sizes).items():
            matrix(f"blk.{layer}.{name}", rows, columns)
        for name, size in norms(sizes).items():
            norm(f"blk.{layer}.{name}", size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
