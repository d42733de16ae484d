"""Guidance of diffusion models, one noise level at a time: the mirror of `arguide`.

Data x_0 in R^d; noised data x_σ = x_0 + σ·ε (variance exploding; other parametrisations map to the same σ). γ = 0 is the
unconditional law, γ = 1 the conditional one. The public names stand in `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
