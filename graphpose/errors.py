"""The one exception that graphpose raises for bad input.

A message is one sentence that names the file, annotation id or configuration key at fault and says what would be right.
"""


class GraphposeError(ValueError):
    """Bad input: a file, an annotation or a setting. The command line prints it without a traceback."""
