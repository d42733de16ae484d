"""Diffusion of tokens: with masks, one token unmasked at a time, and with uniform noise on every token."""

from diffusion.discrete import base, masked, uniform

__all__ = ["base", "masked", "uniform"]
