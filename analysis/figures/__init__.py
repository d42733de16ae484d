"""Figures: frame in, axes out. No computation, no `plt.show`; one module per experiment, `style` for what they share."""
