"""Classifiers of torchvision and timm."""

import timm
from torch import nn
from torchvision import models

from .network import Network, image


def torchvision(name, size, **options):
    return Network(name, lambda: getattr(models, name)(weights=None, **options), image(size))


def of_timm(name, size, title=None, **options):
    build = lambda: timm.create_model(name, pretrained=False, **options)
    return Network(title or name, build, image(size))


def vgg():
    """Without the 120 million weights of its classifier."""
    network = models.vgg11_bn(weights=None)
    network.avgpool = nn.AdaptiveAvgPool2d((2, 2))
    network.classifier = nn.Sequential(nn.Linear(512 * 4, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 10))
    return network


def vision_transformer():
    return models.VisionTransformer(
        image_size=96, patch_size=16, num_layers=4, num_heads=4, hidden_dim=128, mlp_dim=256
    )


def swin(block, downsample):
    return models.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=32,
        depths=[2, 2, 2],
        num_heads=[2, 4, 8],
        window_size=[4, 4],
        block=block,
        downsample_layer=downsample,
    )


def swin_v1():
    from torchvision.models import swin_transformer as s

    return swin(s.SwinTransformerBlock, s.PatchMerging)


def max_vit():
    return models.MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=4,
        block_channels=[16, 32, 64],
        block_layers=[1, 1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
    )


NETWORKS = [
    torchvision("alexnet", 128, num_classes=100),
    Network("vgg11_bn", vgg, image(64)),
    torchvision("resnet18", 224),
    torchvision("resnet50", 128),
    torchvision("resnext50_32x4d", 96),
    torchvision("mobilenet_v2", 224),
    torchvision("mobilenet_v3_small", 224),
    torchvision("mobilenet_v3_large", 128),
    torchvision("efficientnet_b0", 128),
    torchvision("efficientnet_v2_s", 96),
    torchvision("densenet121", 96),
    torchvision("squeezenet1_0", 128),
    torchvision("squeezenet1_1", 224),
    torchvision("shufflenet_v2_x1_0", 128),
    torchvision("regnet_x_400mf", 128),
    torchvision("regnet_y_400mf", 128),
    torchvision("mnasnet0_5", 128),
    torchvision("convnext_tiny", 96),
    torchvision("inception_v3", 128, aux_logits=False, init_weights=False),
    torchvision("googlenet", 128, aux_logits=False, init_weights=False),
    Network("vit", vision_transformer, image(96)),
    Network("swin", swin_v1, image(96)),
    Network("maxvit", max_vit, image(64)),
    of_timm("mixer_s32_224", 224, num_classes=100),
    of_timm("ghostnet_100", 96),
    of_timm("repvgg_a0", 64),
    of_timm("res2net50_26w_4s", 64),
    of_timm("hrnet_w18_small", 64),
    of_timm("mobilevit_xxs", 128),
    of_timm("mobilenetv4_conv_small", 128),
    of_timm("edgenext_xx_small", 128),
    of_timm("levit_128s", 224),
    of_timm("fastvit_t8", 128),
    of_timm("poolformer_s12", 96),
    of_timm("pit_ti_224", 224),
    of_timm("coatnet_nano_rw_224", 224),
    of_timm("xcit_nano_12_p16_224", 224),
    of_timm("efficientformer_l1", 224),
    of_timm("inception_next_tiny", 96),
    of_timm("nfnet_l0", 96),
    of_timm("dpn68", 64),
    of_timm("cspdarknet53", 64),
    of_timm("tf_efficientnet_lite0", 128),
    of_timm("vovnet39a", 64),
    of_timm("selecsls42b", 64),
    of_timm("botnet26t_256", 128, img_size=128),
    of_timm("beit_base_patch16_224", 64, title="beit", img_size=64, depth=2, embed_dim=128, num_heads=4),
]
