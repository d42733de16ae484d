"""Experiments on coherent pairs: the joint law by acceptance, what coherence changes, and a toy that decides on causes."""
