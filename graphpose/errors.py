"""The one exception that graphpose raises for bad input, and output that raises none.

A message is one sentence that names the file, annotation id or configuration key at fault and says what would be right.
"""

from __future__ import annotations

import io
import sys


class GraphposeError(ValueError):
    """Bad input: a file, an annotation or a setting. The command line prints it without a traceback."""


def escape_output() -> None:
    """From now on, what standard output and error cannot encode is printed escaped.

    For commands: a file name that is no UTF-8, or a terminal of another encoding, must not end the work.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
