"""Encoders, decoders and pairs of both, over text; and series."""

import torch
import transformers as t

from .network import Input, Network, features, tokens

VOCABULARY = 300
SMALL = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=64,
    attn_implementation="eager",
)
#: Of decoders: two heads of queries share one of keys and values.
GROUPED = dict(SMALL, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
SEVERAL = dict(
    vocab_size=VOCABULARY,
    d_model=64,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=128,
    decoder_ffn_dim=128,
    max_position_embeddings=64,
    attn_implementation="eager",
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    decoder_start_token_id=1,
)


def masked(length):
    """Ids, and which of them are there."""
    return (*tokens(length, VOCABULARY), Input("mask", (1, length), below=2))


def encoder(name, model, config, **options):
    build = lambda: getattr(t, model)(getattr(t, config)(**{**SMALL, **options}))
    return Network(name, build, tokens(16, VOCABULARY), lambda m, ids: m(ids).last_hidden_state)


def decoder(name, model, config, base=GROUPED, **options):
    build = lambda: getattr(t, model)(getattr(t, config)(**{**base, **options}))
    return Network(name, build, tokens(16, VOCABULARY), lambda m, ids: m(ids, use_cache=False).logits)


def t5():
    config = t.T5Config(
        vocab_size=VOCABULARY,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    return t.T5Model(config)


def bart():
    return t.BartModel(t.BartConfig(**SEVERAL))


def funnel():
    config = t.FunnelConfig(
        vocab_size=VOCABULARY,
        d_model=64,
        n_head=4,
        d_head=16,
        d_inner=128,
        block_sizes=[1, 1],
        num_decoder_layers=1,
    )
    return t.FunnelModel(config)


def gpt2():
    config = t.GPT2Config(
        vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=64, attn_implementation="eager"
    )
    return t.GPT2LMHeadModel(config)


class SelectiveScan(torch.nn.Module):
    """A state-space layer as Mamba has it, one step after the other."""

    def __init__(self, size=24, state=8):
        super().__init__()
        self.into = torch.nn.Linear(size, 2 * size)
        self.conv = torch.nn.Conv1d(size, size, 4, padding=3, groups=size)
        self.project = torch.nn.Linear(size, 2 * state + 1)
        self.log_a = torch.nn.Parameter(torch.arange(1, state + 1).float().log().repeat(size, 1))
        self.skip = torch.nn.Parameter(torch.ones(size))
        self.step = torch.nn.Parameter(torch.zeros(size) - 1)
        self.out = torch.nn.Linear(size, size)
        self.state = state

    def forward(self, x):
        x, gate = self.into(x).chunk(2, -1)
        x = torch.nn.functional.silu(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)
        b, c, step = self.project(x).split((self.state, self.state, 1), -1)
        step = torch.nn.functional.softplus(step + self.step)
        decay = torch.exp(-step[..., None] * self.log_a.exp())
        added = step[..., None] * b[:, :, None] * x[..., None]
        h = torch.zeros_like(added[:, 0])
        results = []
        for i in range(x.shape[1]):
            h = decay[:, i] * h + added[:, i]
            results.append((h * c[:, i, None]).sum(-1))
        y = torch.stack(results, 1) + x * self.skip
        return self.out(y * torch.nn.functional.silu(gate))


NETWORKS = [
    Network(
        "bert",
        lambda: t.BertModel(t.BertConfig(**SMALL)),
        masked(16),
        lambda m, ids, mask: m(ids, attention_mask=mask),
    ),
    encoder(
        "distilbert", "DistilBertModel", "DistilBertConfig", dim=64, n_heads=4, n_layers=2, hidden_dim=128
    ),
    encoder("albert", "AlbertModel", "AlbertConfig", embedding_size=32),
    encoder("roberta", "RobertaModel", "RobertaConfig", max_position_embeddings=66),
    encoder("electra", "ElectraModel", "ElectraConfig", embedding_size=32),
    encoder("deberta", "DebertaModel", "DebertaConfig", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    encoder(
        "deberta_v2",
        "DebertaV2Model",
        "DebertaV2Config",
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        position_buckets=8,
        share_att_key=True,
    ),
    encoder(
        "mobilebert",
        "MobileBertModel",
        "MobileBertConfig",
        embedding_size=32,
        intra_bottleneck_size=32,
        true_hidden_size=32,
    ),
    encoder("mpnet", "MPNetModel", "MPNetConfig"),
    encoder("convbert", "ConvBertModel", "ConvBertConfig", embedding_size=64, conv_kernel_size=5),
    encoder("squeezebert", "SqueezeBertModel", "SqueezeBertConfig", embedding_size=64),
    Network("funnel", funnel, tokens(16, VOCABULARY), lambda m, ids: m(ids).last_hidden_state),
    encoder(
        "modernbert",
        "ModernBertModel",
        "ModernBertConfig",
        pad_token_id=0,
        global_attn_every_n_layers=2,
        local_attention=8,
    ),
    Network("gpt2", gpt2, tokens(16, VOCABULARY), lambda m, ids: m(ids, use_cache=False).logits),
    decoder("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL),
    decoder("llama", "LlamaForCausalLM", "LlamaConfig"),
    decoder("mistral", "MistralForCausalLM", "MistralConfig", sliding_window=8),
    decoder("qwen2", "Qwen2ForCausalLM", "Qwen2Config"),
    decoder("qwen3", "Qwen3ForCausalLM", "Qwen3Config", head_dim=16),
    decoder("gemma", "GemmaForCausalLM", "GemmaConfig", head_dim=16),
    decoder("gemma2", "Gemma2ForCausalLM", "Gemma2Config", head_dim=16, sliding_window=8),
    decoder("phi", "PhiForCausalLM", "PhiConfig"),
    decoder("opt", "OPTForCausalLM", "OPTConfig", dict(SMALL, ffn_dim=128, word_embed_proj_dim=64)),
    Network("selective_scan", SelectiveScan, features(1, 12, 24)),
    Network("t5_encoder", t5, tokens(16, VOCABULARY), lambda m, ids: m.encoder(ids).last_hidden_state),
    Network(
        "t5_decoder",
        t5,
        (*tokens(8, VOCABULARY), Input("states", (1, 16, 64))),
        lambda m, ids, states: (
            m.decoder(ids, encoder_hidden_states=states, use_cache=False).last_hidden_state
        ),
    ),
    Network(
        "bart",
        bart,
        (*tokens(16, VOCABULARY), Input("target", (1, 8), below=VOCABULARY)),
        lambda m, ids, target: m(ids, decoder_input_ids=target, use_cache=False).last_hidden_state,
    ),
]
