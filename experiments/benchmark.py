"""Benchmarks of the parts whose speed the project promises; each prints one JSON object.

python experiments/benchmark.py encode --scenes scenes_n20.json
python experiments/benchmark.py decode --scenes scenes_n20.json --noise 0.15
python experiments/benchmark.py network --size 321
python experiments/benchmark.py load --annotations FILE --images FOLDER
python experiments/benchmark.py train demo workers=0
python experiments/benchmark.py memory
python experiments/benchmark.py onnx --backbone resnet50 --size 641
python experiments/benchmark.py gpu
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # a script: packages are found beside its folder, and its folder is none to look in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.benchmarks.options import add_parsers
from graphpose.errors import GraphposeError, escape_output


def build_parser() -> argparse.ArgumentParser:
    """The parser with a subcommand for each benchmark."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_parsers(parser.add_subparsers(dest="benchmark", required=True))
    return parser


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What a benchmark measured, as plain values; only now is imported what it measures."""
    return pkgutil.resolve_name(options.run)(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark and print its JSON object; returns the exit status."""
    escape_output()
    options = build_parser().parse_args(arguments)
    try:
        print(json.dumps(measure(options)))
    except GraphposeError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
