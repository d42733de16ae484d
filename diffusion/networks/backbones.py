r"""Backbones of denoisers, (noised x, noise level, label) ↦ output: residual layers for vectors, a U-Net for images.

An embedding of the noise level and the label sets the scale and the shift of every layer's normalised input (Perez et al.,
"FiLM: visual reasoning with a general conditioning layer", arXiv:1709.07871). The U-Net has residual blocks at two resolutions,
or at three for images of 16 pixels per side or more (Ronneberger et al., "U-Net: convolutional networks for biomedical image
segmentation", arXiv:1505.04597; Ho et al., "Denoising diffusion probabilistic models", arXiv:2006.11239, appendix B).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from arguide import checks

LEAST, DEEPER = 4, 16  # pixels per side: of a U-Net, and of one that halves its input twice


class Embedding(nn.Module):
    """The embedding of a noise level and a label, [n, width]."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.linspace(0, math.log(64.0), 16).exp() / 4)
        self.label = nn.Embedding(labels + 1, width)
        self.level = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, sigma: Tensor, label: Tensor) -> Tensor:
        """Return [n, width] of noise levels [n] and labels [n], either of which may be [1]; [1, width] if both are."""
        angles = sigma.log()[:, None] * self.frequencies
        return functional.silu(self.level(torch.cat([angles.sin(), angles.cos()], 1)) + self.label(label))


class Residual(nn.Module):
    """Residual layers on a flattened sample.

    Args:
        size: number of coordinates of a sample.
        out: number of outputs per sample.
        labels: number of labels, without the null label.
        width: of the layers.
        depth: number of layers.
    """

    def __init__(self, size: int, out: int, labels: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = Embedding(labels, width)
        self.first = nn.Linear(size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)) for _ in range(depth)
        )
        self.last = nn.Linear(width, out)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Return the outputs, [n, out].

        Args:
            x: samples, [n, …].
            sigma: noise levels, [n] or [1].
            label: labels, [n] or [1].
        """
        embedding = self.embed(sigma, label)
        h = self.first(x.flatten(1))
        for norm, modulation, layer in zip(self.norms, self.modulations, self.layers, strict=True):
            scale, shift = modulation(embedding).chunk(2, 1)
            h = h + layer(norm(h) * (1 + scale) + shift)
        return self.last(functional.silu(h))


class Block(nn.Module):
    """Two convolutions, scaled and shifted by the embedding, and a shortcut past them, on [n, c, h, w].

    Args:
        channels: of the input.
        out: channels of the output.
        width: of the embedding.
    """

    def __init__(self, channels: int, out: int, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(c, out, 3, padding=1) for c in (channels, out))
        self.norm, self.normed = nn.GroupNorm(1, channels), nn.GroupNorm(1, out, affine=False)
        self.modulation = nn.Linear(width, 2 * out)
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return [n, out, h, w] of x [n, channels, h, w] and the embedding, [n, width] or [1, width]."""
        scale, shift = self.modulation(embedding)[..., None, None].chunk(2, 1)
        h = self.normed(self.first(functional.silu(self.norm(x)))) * (1 + scale) + shift
        return self.shortcut(x) + self.second(functional.silu(h))


class Blocks(nn.Module):
    """Blocks one after another, at one resolution; arguments as in `Block`, and their number, `depth`."""

    def __init__(self, channels: int, out: int, depth: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(out if i else channels, out, width) for i in range(depth))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return [n, out, h, w] of x [n, channels, h, w] and the embedding, [n, width] or [1, width]."""
        for block in self.blocks:
            x = block(x, embedding)
        return x


class UNet(nn.Module):
    """Residual blocks at full, half (and quarter) resolution and back, with shortcuts between equal resolutions.

    Args:
        shape: (channels, height, width) of a sample, at least 4 pixels per side; half an odd side is rounded up.
        labels: number of labels, without the null label.
        width: channels at full resolution; each halving of the resolution doubles them.
        depth: blocks at every resolution, down and up.

    Raises:
        ValueError: a shape that is not of an image of 4 pixels per side or more.
    """

    def __init__(self, shape: Sequence[int], labels: int, width: int, depth: int) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < LEAST:
            wanted = f"[channels, height, width] with at least {LEAST} pixels per side for a U-Net"
            raise checks.refusal("shape", wanted, list(shape))
        sizes = [width, 2 * width, 4 * width][: 3 if min(shape[1:]) >= DEEPER else 2]
        self.embed = Embedding(labels, 2 * width)
        self.first, self.last = nn.Conv2d(shape[0], width, 3, padding=1), nn.Conv2d(width, shape[0], 3, padding=1)
        self.norm = nn.GroupNorm(1, width)
        pairs = list(zip([width, *sizes], sizes, strict=False))
        self.down = nn.ModuleList(Blocks(above, size, depth, 2 * width) for above, size in pairs)
        self.up = nn.ModuleList(Blocks(size + above, above, depth, 2 * width) for above, size in reversed(pairs[1:]))

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Return the output, [n, channels, height, width].

        Args:
            x: images, [n, channels, height, width].
            sigma: noise levels, [n] or [1].
            label: labels, [n] or [1].
        """
        embedding = self.embed(sigma, label)
        h, shortcuts = self.first(x), list[Tensor]()
        for blocks in self.down:
            h = functional.avg_pool2d(h, 2, ceil_mode=True) if shortcuts else h
            h = blocks(h, embedding)
            shortcuts.append(h)
        for blocks, shortcut in zip(self.up, shortcuts[-2::-1], strict=True):
            h = blocks(torch.cat([functional.interpolate(h, size=shortcut.shape[2:]), shortcut], 1), embedding)
        return self.last(functional.silu(self.norm(h)))
