"""The study: models of both wings trained on one data set, sampled at every scale and temperature, and compared."""
