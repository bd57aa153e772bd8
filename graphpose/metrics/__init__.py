"""Metrics, each by the rules of its data set; error analysis; files for test servers."""
