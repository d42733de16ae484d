"""Guidance of autoregressive models, one token at a time.

Scale convention, everywhere: γ = 0 is the unconditional law, γ = 1 the conditional one, γ > 1 sharpens. Ho & Salimans (2022)
and several libraries write ω = γ − 1. The public names stand in `__init__.pyi`; each is imported on first use, so that
`import arguide` imports no torch.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
