"""The keys of ``experiments/run.py``, their defaults and the named configurations."""
