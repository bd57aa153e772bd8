"""Networks that OpenPifPaf's authors trained, as checkpoints of this package: found, read and converted."""
