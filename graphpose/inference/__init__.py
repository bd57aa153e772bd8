"""A trained network at work: prediction, evaluation, choice of the decoder's thresholds, export."""
