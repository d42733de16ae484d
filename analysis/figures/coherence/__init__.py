"""Figures of the experiments on coherent pairs."""
