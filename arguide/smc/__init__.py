"""Sequential Monte Carlo that knows no model: what samplers return, resampling, the particle driver, and diagnosis."""
