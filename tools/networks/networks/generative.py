"""Networks that make images: style transfer, larger images, generators, diffusion."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .network import Input, Network, features, image


class Reflected(nn.Sequential):
    """A convolution over an image that is mirrored at its edges."""

    def __init__(self, inputs, outputs, size, stride=1):
        super().__init__(nn.ReflectionPad2d(size // 2), nn.Conv2d(inputs, outputs, size, stride))


class StyleResidual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.block = nn.Sequential(
            Reflected(channels, channels, 3),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(),
            Reflected(channels, channels, 3),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x):
        return x + self.block(x)


class StyleTransfer(nn.Sequential):
    """Johnson's network with upsampling instead of transposed convolutions."""

    def __init__(self, width=16):
        w = width
        super().__init__(
            Reflected(3, w, 9),
            nn.InstanceNorm2d(w, affine=True),
            nn.ReLU(),
            Reflected(w, 2 * w, 3, 2),
            nn.InstanceNorm2d(2 * w, affine=True),
            nn.ReLU(),
            Reflected(2 * w, 4 * w, 3, 2),
            nn.InstanceNorm2d(4 * w, affine=True),
            nn.ReLU(),
            *(StyleResidual(4 * w) for _ in range(3)),
            nn.Upsample(scale_factor=2),
            Reflected(4 * w, 2 * w, 3),
            nn.InstanceNorm2d(2 * w, affine=True),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            Reflected(2 * w, w, 3),
            nn.InstanceNorm2d(w, affine=True),
            nn.ReLU(),
            Reflected(w, 3, 9),
        )


class SuperResolution(nn.Module):
    """EDSR, small: residual blocks, and channels that become pixels; beside the bicubic image."""

    def __init__(self, width=32, depth=4, scale=2, mode="bilinear"):
        super().__init__()
        self.mode = mode
        self.scale = scale
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(depth)
        )
        self.tail = nn.Sequential(nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x):
        y = self.head(x)
        for block in self.body:
            y = y + 0.1 * block(y)
        larger = F.interpolate(x, scale_factor=self.scale, mode=self.mode, align_corners=False)
        return self.tail(y) + larger


class Generator(nn.Sequential):
    """DCGAN's."""

    def __init__(self, latent=64, width=16):
        layers = []
        sizes = [latent, 8 * width, 4 * width, 2 * width, width]
        for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 4, 2 if i else 1, 1 if i else 0, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())


class Discriminator(nn.Sequential):
    def __init__(self, width=16):
        super().__init__(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, 1, 1),
        )


def timestep_embedding(steps, size):
    """Sines and cosines of a step, as in diffusion models."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(size // 2, dtype=steps.dtype) / (size // 2))
    angles = steps[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], -1)


class DiffusionResidual(nn.Module):
    def __init__(self, inputs, outputs, time):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, time):
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + self.time(F.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(y)))


class CrossAttention(nn.Module):
    """Of pixels over themselves, then over a text, then a gated feed-forward layer."""

    def __init__(self, channels, context, heads=4):
        super().__init__()
        self.heads = heads
        self.group = nn.GroupNorm(8, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.queries = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(2))
        self.keys = nn.ModuleList(nn.Linear(s, channels, bias=False) for s in (channels, context))
        self.values = nn.ModuleList(nn.Linear(s, channels, bias=False) for s in (channels, context))
        self.outs = nn.ModuleList(nn.Linear(channels, channels) for _ in range(2))
        self.gate = nn.Linear(channels, 8 * channels)
        self.out = nn.Linear(4 * channels, channels)

    def attend(self, i, x, context):
        split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = self.queries[i](x), self.keys[i](context), self.values[i](context)
        y = F.scaled_dot_product_attention(split(q), split(k), split(v))
        return self.outs[i](y.transpose(1, 2).flatten(2))

    def forward(self, x, text):
        batch, channels, height, width = x.shape
        y = self.group(x).flatten(2).transpose(1, 2)
        z = self.norms[0](y)
        y = y + self.attend(0, z, z)
        y = y + self.attend(1, self.norms[1](y), text)
        value, gate = self.gate(self.norms[2](y)).chunk(2, -1)
        y = y + self.out(value * F.gelu(gate))
        return x + y.transpose(1, 2).reshape(batch, channels, height, width)


class DiffusionUNet(nn.Module):
    """Two levels of Stable Diffusion's network."""

    def __init__(self, width=32, context=48):
        super().__init__()
        w, self.width = width, width
        self.time = nn.Sequential(nn.Linear(w, 4 * w), nn.SiLU(), nn.Linear(4 * w, 4 * w))
        self.into = nn.Conv2d(4, w, 3, padding=1)
        self.down1 = DiffusionResidual(w, w, 4 * w)
        self.attend1 = CrossAttention(w, context)
        self.shrink = nn.Conv2d(w, w, 3, 2, 1)
        self.down2 = DiffusionResidual(w, 2 * w, 4 * w)
        self.attend2 = CrossAttention(2 * w, context)
        self.middle = DiffusionResidual(2 * w, 2 * w, 4 * w)
        self.up2 = DiffusionResidual(4 * w, 2 * w, 4 * w)
        self.grow = nn.Conv2d(2 * w, w, 3, padding=1)
        self.up1 = DiffusionResidual(2 * w, w, 4 * w)
        self.norm = nn.GroupNorm(8, w)
        self.out = nn.Conv2d(w, 4, 3, padding=1)

    def forward(self, latent, step, text):
        time = self.time(timestep_embedding(step, self.width))
        x = self.into(latent)
        x1 = self.attend1(self.down1(x, time), text)
        x2 = self.attend2(self.down2(self.shrink(x1), time), text)
        y = self.middle(x2, time)
        y = self.up2(torch.cat([y, x2], 1), time)
        y = self.grow(F.interpolate(y, scale_factor=2.0, mode="nearest"))
        y = self.up1(torch.cat([y, x1], 1), time)
        return self.out(F.silu(self.norm(y)))


class VaeDecoder(nn.Module):
    """From latents to pixels, with one attention in the middle."""

    def __init__(self, width=32):
        super().__init__()
        self.into = nn.Conv2d(4, 2 * width, 3, padding=1)
        self.norm = nn.GroupNorm(8, 2 * width)
        self.attention = nn.MultiheadAttention(2 * width, 1, batch_first=True)
        self.up1 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(8, width)
        self.out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latent):
        x = self.into(latent)
        y = self.norm(x).flatten(2).transpose(1, 2)
        y = self.attention(y, y, y, need_weights=False)[0]
        x = x + y.transpose(1, 2).reshape(x.shape)
        x = self.up1(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.out(F.silu(self.norm1(x)))


class Flow(nn.Module):
    """Where pixels of one image are in another, and that image brought there."""

    def __init__(self, width=16):
        super().__init__()
        self.flow = nn.Sequential(
            nn.Conv2d(6, width, 5, padding=2), nn.LeakyReLU(0.1), nn.Conv2d(width, 2, 3, padding=1)
        )

    def forward(self, images):
        flow = 0.2 * self.flow(images).tanh()
        rows = torch.linspace(-1, 1, images.shape[2], dtype=images.dtype)
        columns = torch.linspace(-1, 1, images.shape[3], dtype=images.dtype)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        grid = torch.stack([x, y], -1)[None] + flow.permute(0, 2, 3, 1)
        return F.grid_sample(images[:, :3], grid, mode="bilinear", padding_mode="border", align_corners=True)


DIFFUSION = (
    Input("latent", (1, 4, 16, 16)),
    Input("step", (1,)),
    Input("text", (1, 12, 48)),
)

NETWORKS = [
    Network("style_transfer", StyleTransfer, image(96)),
    Network("super_resolution", SuperResolution, image(64)),
    Network("dcgan_generator", Generator, features(1, 64, 1, 1)),
    Network("dcgan_discriminator", Discriminator, image(64)),
    Network("diffusion_unet", DiffusionUNet, DIFFUSION),
    Network("vae_decoder", VaeDecoder, features(1, 4, 16, 16)),
    Network("optical_flow", Flow, image(48, channels=6)),
]
