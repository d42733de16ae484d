"""Sequential Monte Carlo that knows no model: what samplers return, resampling, the particle driver, and diagnosis.

Example:
    >>> log_weights = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
    >>> arguide.smc.samples.effective_sample_size(log_weights)
    tensor(2.6667)
"""
