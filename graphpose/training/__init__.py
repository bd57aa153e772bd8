"""The parts of :class:`graphpose.train.Trainer`, one job each."""
