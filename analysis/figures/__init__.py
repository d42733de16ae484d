"""Figures: frame in, axes out. No computation, no `plt.show`; one module an experiment, `style` for what they share."""
