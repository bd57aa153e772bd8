"""Training: :class:`graphpose.training.trainer.Trainer` and its parts, one job each."""
