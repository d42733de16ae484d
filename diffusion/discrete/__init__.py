"""Diffusion of tokens: with masks, one token unmasked at a time, and with uniform noise on every token."""

from diffusion.discrete import base as base
from diffusion.discrete import masked as masked
from diffusion.discrete import uniform as uniform
