"""Coherent pairs: p(x) is the mixture of the conditional laws, so p(x|y)/p(x) ≤ 1/π_y, and the joint law can be drawn."""
