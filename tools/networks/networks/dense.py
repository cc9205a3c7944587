"""Detection and segmentation: backbones, pyramids and heads, up to where boxes are chosen; and video."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import detection, segmentation, video

from .network import Network, features, image


def heads(model, x):
    """Classes and boxes for every anchor, before they are decoded and suppressed."""
    maps = list(model.backbone(x).values())
    return model.head(maps)


def proposals(model, x):
    """What a region proposal network says of each anchor, beside the pyramid's coarsest maps."""
    maps = list(model.backbone(x).values())
    scores, boxes = model.rpn.head(maps)
    return scores + boxes


def detector(name, size, call=heads, **options):
    build = lambda: getattr(detection, name)(weights=None, weights_backbone=None, **options)
    return Network(name.split("_fpn")[0], build, image(size), call)


def segmenter(name, size):
    def build():
        return getattr(segmentation, name)(
            weights=None, weights_backbone=None, num_classes=21, aux_loss=False
        )

    return Network(name, build, image(size), lambda model, x: model(x)["out"])


class Unit(nn.Sequential):
    def __init__(self, inputs, outputs, size=3, stride=1, groups=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
        )


class CrossStage(nn.Module):
    """Half of the channels go past the bottlenecks."""

    def __init__(self, inputs, outputs, depth=1):
        super().__init__()
        self.into = Unit(inputs, outputs, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(Unit(outputs // 2, outputs // 2), Unit(outputs // 2, outputs // 2))
            for _ in range(depth)
        )
        self.out = Unit(outputs + depth * outputs // 2, outputs, 1)

    def forward(self, x):
        parts = list(self.into(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(parts[-1] + block(parts[-1]))
        return self.out(torch.cat(parts, 1))


class PyramidPool(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.into = Unit(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.out = Unit(channels * 2, channels, 1)

    def forward(self, x):
        parts = [self.into(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.out(torch.cat(parts, 1))


class Yolo(nn.Module):
    """A single-shot detector with a path down, up and down again, and distances as distributions."""

    BINS = 8

    def __init__(self, classes=20, width=16):
        super().__init__()
        w = width
        self.stem = nn.Sequential(Unit(3, w, 3, 2), Unit(w, 2 * w, 3, 2), CrossStage(2 * w, 2 * w))
        self.down1 = nn.Sequential(Unit(2 * w, 4 * w, 3, 2), CrossStage(4 * w, 4 * w, 2))
        self.down2 = nn.Sequential(Unit(4 * w, 8 * w, 3, 2), CrossStage(8 * w, 8 * w, 2))
        self.down3 = nn.Sequential(Unit(8 * w, 16 * w, 3, 2), CrossStage(16 * w, 16 * w), PyramidPool(16 * w))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up2 = CrossStage(24 * w, 8 * w)
        self.up1 = CrossStage(12 * w, 4 * w)
        self.again2 = Unit(4 * w, 4 * w, 3, 2)
        self.out2 = CrossStage(12 * w, 8 * w)
        self.again3 = Unit(8 * w, 8 * w, 3, 2)
        self.out3 = CrossStage(24 * w, 16 * w)
        sizes = (4 * w, 8 * w, 16 * w)
        self.boxes = nn.ModuleList(nn.Sequential(Unit(s, w), nn.Conv2d(w, 4 * self.BINS, 1)) for s in sizes)
        self.classes = nn.ModuleList(nn.Sequential(Unit(s, w), nn.Conv2d(w, classes, 1)) for s in sizes)
        self.register_buffer("bins", torch.arange(self.BINS, dtype=torch.float32))

    def forward(self, x):
        x1 = self.down1(self.stem(x))
        x2 = self.down2(x1)
        x3 = self.down3(x2)
        y2 = self.up2(torch.cat([self.up(x3), x2], 1))
        y1 = self.up1(torch.cat([self.up(y2), x1], 1))
        y2 = self.out2(torch.cat([self.again2(y1), y2], 1))
        y3 = self.out3(torch.cat([self.again3(y2), x3], 1))
        maps = (y1, y2, y3)
        boxes = torch.cat([head(m).flatten(2) for head, m in zip(self.boxes, maps)], 2)
        classes = torch.cat([head(m).flatten(2) for head, m in zip(self.classes, maps)], 2)
        batch, _, anchors = boxes.shape
        distances = boxes.view(batch, 4, self.BINS, anchors).softmax(2)
        distances = (distances * self.bins.view(1, 1, -1, 1)).sum(2)
        return torch.cat([distances, classes.sigmoid()], 1)


class CenterNet(nn.Module):
    """Peaks of a heat map are objects."""

    def __init__(self):
        super().__init__()
        body = models.resnet18(weights=None)
        self.body = nn.Sequential(*list(body.children())[:-2])
        self.up = nn.Sequential(
            *(self.double(inputs, outputs) for inputs, outputs in ((512, 128), (128, 64), (64, 32)))
        )
        self.heat = nn.Conv2d(32, 10, 1)
        self.size = nn.Conv2d(32, 2, 1)

    @staticmethod
    def double(inputs, outputs):
        return nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x):
        x = self.up(self.body(x))
        heat = self.heat(x).sigmoid()
        peaks = F.max_pool2d(heat, 3, 1, 1)
        scores, _places = (heat * (peaks == heat)).flatten(1).topk(10)
        return scores, self.size(x)


class UNet(nn.Module):
    """Down and up again, with what was seen on the way down."""

    def __init__(self, width=16, depth=4):
        super().__init__()
        sizes = [width * 2**i for i in range(depth)]
        self.down = nn.ModuleList(self.twice(i, o) for i, o in zip([3, *sizes], sizes))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * s, s, 2, 2) for s in sizes[-2::-1])
        self.join = nn.ModuleList(self.twice(2 * s, s) for s in sizes[-2::-1])
        self.head = nn.Conv2d(width, 4, 1)

    @staticmethod
    def twice(inputs, outputs):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x):
        seen = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if seen else x)
            seen.append(x)
        for up, join, before in zip(self.up, self.join, seen[-2::-1]):
            x = join(torch.cat([up(x), before], 1))
        return self.head(x)


NETWORKS = [
    detector("ssd300_vgg16", 300, num_classes=5),
    detector("ssdlite320_mobilenet_v3_large", 320, num_classes=21),
    detector("retinanet_resnet50_fpn", 96, num_classes=5),
    detector("retinanet_resnet50_fpn_v2", 96, num_classes=5),
    detector("fcos_resnet50_fpn", 96, num_classes=5),
    detector("fasterrcnn_mobilenet_v3_large_320_fpn", 128, call=proposals, num_classes=5),
    Network("yolo", Yolo, image(160)),
    Network("centernet", CenterNet, image(128)),
    segmenter("deeplabv3_mobilenet_v3_large", 128),
    segmenter("deeplabv3_resnet50", 64),
    segmenter("fcn_resnet50", 64),
    segmenter("lraspp_mobilenet_v3_large", 128),
    Network("unet", UNet, image(128)),
    Network("s3d", lambda: video.s3d(weights=None, num_classes=10), features(1, 3, 16, 64, 64)),
]
