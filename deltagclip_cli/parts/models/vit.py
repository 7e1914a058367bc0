"""Vision transformers with patches of 16 pixels, as timm's ``vit_*_patch16_224``.

Source: Dosovitskiy et al. (2021), sizes of Touvron et al. (2021); initialisation and the
interpolation of positions as in timm with ``dynamic_img_size``, from which nothing is imported.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltagclip_cli.core import UsageError
from deltagclip_cli.parts.models import image_shape

PATCH = 16
DEPTH = 12
GRID = 14  # patches a side in the 224-pixel image whose positions are learnt


def vit_tiny(shape: tuple[int, ...], classes: int) -> nn.Module:
    """ViT-Tiny: patch 16, width 192, depth 12, 3 heads; 5,526,346 parameters for 10 classes."""
    return VisionTransformer("vit_tiny", shape, classes, width=192, heads=3)


def vit_small(shape: tuple[int, ...], classes: int) -> nn.Module:
    """ViT-Small: patch 16, width 384, depth 12, 6 heads; 21,669,514 parameters for 10 classes."""
    return VisionTransformer("vit_small", shape, classes, width=384, heads=6)


class VisionTransformer(nn.Module):
    """Pre-norm transformer over patches and a class token, whose output is classified.

    The learnt positions are those of a 224-pixel image (14 x 14 patches) and are interpolated to
    the input's grid. The interpolation is linear, so it is one matrix, made once; unlike the
    backward pass of bicubic interpolation, a product with it is deterministic on CUDA.
    """

    resample: Tensor | None

    def __init__(
        self, name: str, shape: tuple[int, ...], classes: int, *, width: int, heads: int
    ) -> None:
        super().__init__()
        channels, rows, columns = _patch_grid(name, shape)
        self.patches = nn.Conv2d(channels, width, kernel_size=PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1 + GRID * GRID, width))
        self.register_buffer("resample", _resampling(rows, columns), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.normal_(self.class_token, std=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, classes)``."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([first, tokens], dim=1) + self._grid_positions()
        logits: Tensor = self.head(self.norm(self.blocks(tokens)[:, 0]))
        return logits

    def _grid_positions(self) -> Tensor:
        """The positions ``(1 + rows * columns, width)``, in full precision under autocast too."""
        if self.resample is None:
            return self.positions
        with torch.autocast(self.positions.device.type, enabled=False):
            return self.resample @ self.positions


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each after a norm and around a skip.

    Plain linear layers around torch's attention kernel: ``nn.TransformerEncoderLayer`` and
    ``nn.MultiheadAttention`` switch to other kernels when they evaluate, so that a training and an
    evaluation pass over the same data would differ.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(N, T, width)`` to tokens of the same shape."""
        tokens = tokens + self._attention(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result

    def _attention(self, tokens: Tensor) -> Tensor:
        samples, length, width = tokens.shape
        packed = self.qkv(tokens).view(samples, length, 3, self.heads, width // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return result


def _patch_grid(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, rows and columns of patches of an image."""
    channels, height, width = image_shape(name, shape)
    if height % PATCH or width % PATCH:
        larger = PATCH * -(-max(height, width) // PATCH)
        raise UsageError(
            f"model {name} needs images whose sides are multiples of {PATCH} pixels, "
            f"got {height} x {width}.\n"
            f"  Set image_size in the data, for example to {larger}."
        )
    return channels, height // PATCH, width // PATCH


def _resampling(rows: int, columns: int) -> Tensor | None:
    """The matrix ``(1 + rows * columns, 1 + GRID * GRID)`` from learnt to used positions.

    Its first row keeps the position of the class token. None where nothing changes.
    """
    if rows == columns == GRID:
        return None
    basis = torch.eye(GRID * GRID).view(GRID * GRID, 1, GRID, GRID)
    images = functional.interpolate(
        basis, size=(rows, columns), mode="bicubic", antialias=True, align_corners=False
    )
    matrix = torch.zeros(1 + rows * columns, 1 + GRID * GRID)
    matrix[0, 0] = 1.0
    matrix[1:, 1:] = images.flatten(1).T
    return matrix
