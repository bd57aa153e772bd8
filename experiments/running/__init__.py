"""What ``experiments/run.py`` does: from the command line to the artefacts of a run."""
