"""Benchmarks of the parts whose speed the project promises; each prints one JSON object.

python experiments/benchmark.py encode --scenes scenes_n20.json
python experiments/benchmark.py decode --scenes scenes_n20.json --noise 0.15
python experiments/benchmark.py network --size 321
python experiments/benchmark.py load --annotations FILE --images FOLDER
python experiments/benchmark.py train demo workers=0
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if not __package__:  # a script: packages are found beside its folder, and its folder is none to look in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.benchmarks import fields, loader, network, train
from graphpose.errors import GraphposeError


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark and print its JSON object; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="benchmark", required=True)
    fields.add_parsers(subparsers)
    network.add_parsers(subparsers)
    loader.add_parsers(subparsers)
    train.add_parsers(subparsers)
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(options.run(options)))
    except GraphposeError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
