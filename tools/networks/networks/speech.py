"""Sound: front ends, encoders, decoders, taggers and vocoders."""

import math

import torch
import transformers as t
from torch import nn
from torch.nn import functional as F

from .network import Input, Network, features


def audio(samples):
    return (Input("audio", (1, samples)),)


SMALL = dict(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    conv_dim=(32, 32, 32),
    conv_kernel=(10, 3, 2),
    conv_stride=(5, 2, 2),
    num_feat_extract_layers=3,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    apply_spec_augment=False,
    attn_implementation="eager",
)


def whisper():
    return t.WhisperModel(
        t.WhisperConfig(
            vocab_size=200,
            num_mel_bins=40,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_source_positions=50,
            max_target_positions=32,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            attn_implementation="eager",
        )
    )


class MelFrontEnd(nn.Module):
    """Log mel spectrum: the Fourier transform as a convolution."""

    def __init__(self, window=400, hop=160, bands=40, rate=16000):
        super().__init__()
        self.hop, self.window = hop, window
        n = torch.arange(window, dtype=torch.float64)
        k = torch.arange(window // 2 + 1, dtype=torch.float64)[:, None]
        angles = 2 * math.pi * k * n / window
        kernel = torch.cat([angles.cos(), -angles.sin()]) * torch.hann_window(window, dtype=torch.float64)
        self.register_buffer("kernel", kernel.float()[:, None])
        mel = lambda hertz: 2595 * math.log10(1 + hertz / 700)
        edges = torch.linspace(mel(0), mel(rate / 2), bands + 2, dtype=torch.float64)
        edges = 700 * (10 ** (edges / 2595) - 1)
        hertz = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64)
        rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
        self.register_buffer("filters", torch.minimum(rise, fall).clamp(min=0).float())

    def forward(self, x):
        x = F.pad(x[:, None], (self.window // 2, self.window // 2), mode="reflect")
        spectrum = F.conv1d(x, self.kernel, stride=self.hop)
        real, imaginary = spectrum.chunk(2, 1)
        mels = self.filters @ (real**2 + imaginary**2)
        return torch.log10(mels.clamp(min=1e-5))


class Tagger(nn.Module):
    """A recurrent network over a sequence, and a class for each place."""

    def __init__(self, kind, **options):
        super().__init__()
        self.layers = kind(24, 32, batch_first=True, **options)
        sides = 2 if options.get("bidirectional") else 1
        self.head = nn.Linear(32 * sides, 9)

    def forward(self, x):
        y, _ = self.layers(x)
        return self.head(y)


class Crnn(nn.Module):
    """Text in images: convolutions, pooling of rows, and a recurrent network along columns."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d((2, 1)),
            nn.AdaptiveAvgPool2d((1, None)),
        )
        self.layers = nn.LSTM(32, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(48, 37)

    def forward(self, x):
        y = self.body(x).mean(2).transpose(1, 2)
        return self.head(self.layers(y)[0]).log_softmax(-1)


class Denoiser(nn.Module):
    """A mask over spectra, kept by a recurrent network whose state goes in and out."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv1d(1, 48, 16, stride=8)
        self.rnn = nn.GRU(48, 64, batch_first=True)
        self.mask = nn.Linear(64, 48)
        self.decoder = nn.ConvTranspose1d(48, 1, 16, stride=8)

    def forward(self, x, state):
        y = self.encoder(x)
        hidden, state = self.rnn(y.transpose(1, 2), state)
        mask = self.mask(hidden).sigmoid().transpose(1, 2)
        return self.decoder(y * mask), state


class ConformerBlock(nn.Module):
    def __init__(self, size=64, heads=4, kernel=15):
        super().__init__()
        self.half1 = self.feed_forward(size)
        self.norm = nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)
        self.conv_norm = nn.LayerNorm(size)
        self.conv = nn.Sequential(
            nn.Conv1d(size, 2 * size, 1),
            nn.GLU(1),
            nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=size),
            nn.BatchNorm1d(size),
            nn.SiLU(),
            nn.Conv1d(size, size, 1),
        )
        self.half2 = self.feed_forward(size)
        self.out = nn.LayerNorm(size)

    @staticmethod
    def feed_forward(size):
        return nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size)
        )

    def forward(self, x):
        x = x + 0.5 * self.half1(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.conv(self.conv_norm(x).transpose(1, 2)).transpose(1, 2)
        return self.out(x + 0.5 * self.half2(x))


class Conformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.shrink = nn.Sequential(nn.Conv2d(1, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU())
        self.into = nn.Linear(16 * 9, 64)
        self.blocks = nn.Sequential(ConformerBlock(), ConformerBlock())
        self.head = nn.Linear(64, 30)

    def forward(self, mels):
        x = self.shrink(mels[:, None]).permute(0, 2, 1, 3).flatten(2)
        return self.head(self.blocks(self.into(x))).log_softmax(-1)


class TemporalConvolutions(nn.Module):
    """Conv-TasNet's separator: dilated convolutions by depth, normed over everything."""

    def __init__(self, width=32):
        super().__init__()
        self.encoder = nn.Conv1d(1, width, 16, 8, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, 2 * width, 1),
                nn.PReLU(),
                nn.GroupNorm(1, 2 * width),
                nn.Conv1d(2 * width, 2 * width, 3, padding=2**i, dilation=2**i, groups=2 * width),
                nn.PReLU(),
                nn.GroupNorm(1, 2 * width),
                nn.Conv1d(2 * width, width, 1),
            )
            for i in range(4)
        )
        self.masks = nn.Conv1d(width, 2 * width, 1)
        self.decoder = nn.ConvTranspose1d(width, 1, 16, 8, bias=False)

    def forward(self, audio):
        x = self.encoder(audio[:, None])
        y = x
        for block in self.blocks:
            y = y + block(y)
        masks = self.masks(y).sigmoid().unflatten(1, (2, -1))
        parts = (masks * x[:, None]).flatten(0, 1)
        return self.decoder(parts).transpose(0, 1)


def encodec():
    config = t.EncodecConfig(
        num_filters=8,
        hidden_size=32,
        upsampling_ratios=[4, 2],
        num_residual_layers=1,
        num_lstm_layers=1,
        use_causal_conv=True,
        norm_type="weight_norm",
        sampling_rate=16000,
    )
    return t.EncodecModel(config)


def vocoder():
    config = t.SpeechT5HifiGanConfig(
        model_in_dim=20,
        upsample_initial_channel=32,
        upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3, 5],
        resblock_dilation_sizes=[[1, 3], [1, 3]],
    )
    return t.SpeechT5HifiGan(config)


def spectrogram_transformer():
    config = t.ASTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_length=64,
        num_mel_bins=32,
        attn_implementation="eager",
    )
    return t.ASTForAudioClassification(config)


def hidden(model, *inputs):
    return model(*inputs).last_hidden_state


WHISPER_DECODER = (Input("ids", (1, 12), below=200), Input("audio_states", (1, 50, 64)))

NETWORKS = [
    Network("mel_front_end", MelFrontEnd, audio(8000)),
    Network("wav2vec2", lambda: t.Wav2Vec2Model(t.Wav2Vec2Config(**SMALL)), audio(1600), hidden),
    Network(
        "wav2vec2_ctc",
        lambda: t.Wav2Vec2ForCTC(
            t.Wav2Vec2Config(**SMALL, vocab_size=32, do_stable_layer_norm=True, feat_extract_norm="layer")
        ),
        audio(1600),
        lambda m, x: m(x).logits,
    ),
    Network("hubert", lambda: t.HubertModel(t.HubertConfig(**SMALL)), audio(1600), hidden),
    Network("wavlm", lambda: t.WavLMModel(t.WavLMConfig(**SMALL)), audio(1600), hidden),
    Network(
        "wav2vec2_conformer",
        lambda: t.Wav2Vec2ConformerModel(
            t.Wav2Vec2ConformerConfig(**SMALL, position_embeddings_type="relative")
        ),
        audio(1600),
        hidden,
    ),
    Network("whisper_encoder", whisper, features(1, 40, 100), lambda m, x: hidden(m.encoder, x)),
    Network(
        "whisper_decoder",
        whisper,
        WHISPER_DECODER,
        lambda m, ids, states: (
            m.decoder(ids, encoder_hidden_states=states, use_cache=False).last_hidden_state
        ),
    ),
    Network("conformer", Conformer, features(1, 64, 40)),
    Network("conv_tasnet", TemporalConvolutions, audio(1600)),
    Network("encodec_encoder", encodec, features(1, 1, 640), lambda m, x: m.encoder(x)),
    Network("encodec_decoder", encodec, features(1, 32, 40), lambda m, x: m.decoder(x)),
    Network("hifigan", vocoder, features(1, 24, 20)),
    Network(
        "audio_spectrogram_transformer",
        spectrogram_transformer,
        features(1, 64, 32),
        lambda m, x: m(x).logits,
    ),
    Network("lstm_tagger", lambda: Tagger(nn.LSTM, num_layers=2, bidirectional=True), features(1, 20, 24)),
    Network("gru_tagger", lambda: Tagger(nn.GRU, num_layers=2, bidirectional=True), features(1, 20, 24)),
    Network("rnn_tagger", lambda: Tagger(nn.RNN, num_layers=2), features(1, 20, 24)),
    Network("rnn_relu_tagger", lambda: Tagger(nn.RNN, nonlinearity="relu"), features(1, 20, 24)),
    Network("crnn", Crnn, features(1, 1, 32, 64)),
    Network("denoiser", Denoiser, (Input("audio", (1, 1, 256)), Input("state", (1, 1, 64)))),
]
