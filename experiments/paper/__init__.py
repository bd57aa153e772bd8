"""What ``experiments/tables.py`` does: the paper's tables, from their rows to the results page."""
