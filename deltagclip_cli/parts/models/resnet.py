"""ResNet-18 for small images."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18 as imagenet_resnet18

from deltagclip_cli.parts.models import image_shape


def resnet18(shape: tuple[int, ...], classes: int) -> nn.Module:
    """ResNet-18 with a stem for small images (3 x 3 convolution, stride 1, no max-pool).

    11,173,962 parameters for 3 channels and 10 classes. The stem of the ImageNet network would
    shrink 32 x 32 pixels to 8 x 8 before the first block.

    Source: He et al., Deep Residual Learning (2015); the stem is the usual one for CIFAR.
    """
    channels, _, _ = image_shape("resnet18", shape)
    model: nn.Module = imagenet_resnet18(weights=None, num_classes=classes)
    stem = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = stem
    model.maxpool = nn.Identity()
    return model
