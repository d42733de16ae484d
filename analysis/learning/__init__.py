"""Learning: labelled data sets, the models that are trained on them, and their training."""
