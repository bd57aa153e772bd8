"""Metrics, each by the rules of its data set."""
