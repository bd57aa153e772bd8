"""The parts of :class:`graphpose.training.trainer.Trainer`, one job each."""
