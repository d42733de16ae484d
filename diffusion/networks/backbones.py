r"""What maps a noised x, told the noise level and the label, to an output: residual layers on a vector, a U-Net on an image.

Every layer or block is told by a scale and a shift of its normed input (Perez et al., "FiLM", 2018). The U-Net has residual
blocks at two resolutions, at three from 16 pixels a side on (Ronneberger et al., "U-Net", 2015; Ho et al., "Denoising diffusion
probabilistic models", 2020, appendix B).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST, DEEPER = 4, 16  # pixels a side: of a U-Net, and of one that halves twice


class Told(nn.Module):
    """What layers are told of the noise level and the label, [n, width]."""

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
    """Residual layers on x as a vector, whatever its shape; `out` numbers a sample come out."""

    def __init__(self, size: int, out: int, labels: int, width: int, depth: int) -> None:
        super().__init__()
        self.tell = Told(labels, width)
        self.first = nn.Linear(size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        self.told = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)) for _ in range(depth)
        )
        self.last = nn.Linear(width, out)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Return [n, out] of x [n, …], noise levels and labels, [n] or [1]."""
        told = self.tell(sigma, label)
        h = self.first(x.flatten(1))
        for norm, tell, layer in zip(self.norms, self.told, self.layers, strict=True):
            scale, shift = tell(told).chunk(2, 1)
            h = h + layer(norm(h) * (1 + scale) + shift)
        return self.last(functional.silu(h))


class Block(nn.Module):
    """Two convolutions around what they are told, and a way past them, on [n, c, h, w]."""

    def __init__(self, channels: int, out: int, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(c, out, 3, padding=1) for c in (channels, out))
        self.norm, self.normed = nn.GroupNorm(1, channels), nn.GroupNorm(1, out, affine=False)
        self.told = nn.Linear(width, 2 * out)
        self.past = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Return [n, out, h, w] of x [n, channels, h, w] and what is told, [n, width]."""
        scale, shift = self.told(told)[..., None, None].chunk(2, 1)
        h = self.normed(self.first(functional.silu(self.norm(x)))) * (1 + scale) + shift
        return self.past(x) + self.second(functional.silu(h))


class Blocks(nn.Module):
    """Blocks one after another, at one resolution."""

    def __init__(self, channels: int, out: int, depth: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(out if i else channels, out, width) for i in range(depth))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Return [n, out, h, w] of x [n, channels, h, w] and what is told, [n, width]."""
        for block in self.blocks:
            x = block(x, told)
        return x


class UNet(nn.Module):
    """Residual blocks at full, half (and quarter) resolution and back, with shortcuts between equal resolutions.

    Args:
        shape: (channels, height, width) of a sample, at least 4 pixels a side; odd sides are halved upwards.
        width: channels at full resolution, twice as many below each halving.
        depth: blocks at every resolution, down and up.
    """

    def __init__(self, shape: Sequence[int], labels: int, width: int, depth: int) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < LEAST:
            raise ValueError(f"a U-Net takes [channels, height, width] of {LEAST} pixels a side at least, not {list(shape)}")
        sizes = [width, 2 * width, 4 * width][: 3 if min(shape[1:]) >= DEEPER else 2]
        self.tell = Told(labels, 2 * width)
        self.first, self.last = nn.Conv2d(shape[0], width, 3, padding=1), nn.Conv2d(width, shape[0], 3, padding=1)
        self.norm = nn.GroupNorm(1, width)
        pairs = list(zip([width, *sizes], sizes, strict=False))
        self.down = nn.ModuleList(Blocks(above, size, depth, 2 * width) for above, size in pairs)
        self.up = nn.ModuleList(Blocks(size + above, above, depth, 2 * width) for above, size in reversed(pairs[1:]))

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Return [n, …] of x [n, …], noise levels and labels, [n] or [1]."""
        told = self.tell(sigma, label)
        h, shortcuts = self.first(x), list[Tensor]()
        for blocks in self.down:
            h = functional.avg_pool2d(h, 2, ceil_mode=True) if shortcuts else h
            h = blocks(h, told)
            shortcuts.append(h)
        for blocks, shortcut in zip(self.up, shortcuts[-2::-1], strict=True):
            h = blocks(torch.cat([functional.interpolate(h, size=shortcut.shape[2:]), shortcut], 1), told)
        return self.last(functional.silu(self.norm(h)))
