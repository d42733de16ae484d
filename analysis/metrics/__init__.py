"""Metrics: divergences of laws, scale factors, estimates with their errors, and statistics of samples.

Example:
    >>> log_p, log_q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    >>> analysis.metrics.distances.kl(log_p, log_q), analysis.metrics.distances.tv(log_p, log_q)
    (tensor(0.5108), tensor(0.4000))
"""
