"""The command line of an experiment: its record, the run it resumes, its ranks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from sacred import Experiment
from sacred.arg_parser import get_config_updates

from experiments.running.records import AtomicFileStorage, require_writable
from experiments.running.resume import find_checkpoint, stored_configuration
from graphpose.errors import GraphposeError

UNRECORDED = ("-u", "--unobserved", "-h", "--help", "help", "print_", "save_config")


def sacred_arguments(experiment: Experiment, arguments: list[str]) -> list[str]:
    """The command line as Sacred takes it: with runs/ (or -F) as the record, beside other observers, and a resumed
    run's configuration.

    Raises:
        GraphposeError: the run to resume is not there, its checkpoint cannot be read, or help is asked for a command
            that is none.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-F", "--file_storage", type=Path, default=Path("runs"))
    options, others = parser.parse_known_args(arguments[1:])  # Sacred's own observer may leave half a file behind
    runs = options.file_storage
    begin = others.index("with") + 1 if "with" in others else len(others)
    flags, updates = others[:begin], others[begin:]
    if flags[:1] == ["help"] and not set(flags[1:]) <= experiment.commands.keys():
        raise GraphposeError(
            f"there is no command '{flags[1]}'; without a command run.py trains, the others are "
            f"{', '.join(name for name in experiment.commands if name != experiment.default_command)}"
        )
    named = []
    if "own" in updates and not any(update.startswith("resume=") for update in updates):
        _choose_own(experiment, updates)
    for i, update in enumerate(updates):
        if update.startswith("resume="):
            checkpoint = find_checkpoint(update.removeprefix("resume="), runs)
            experiment.named_configs.pop("resumed", None)  # of a command line before this one
            experiment.add_named_config("resumed", stored_configuration(checkpoint))
            named, updates[i] = ["resumed"], f"resume={checkpoint}"
    if os.environ.get("RANK", "0") != "0":  # one record, kept by rank 0
        return [
            arguments[0],
            "--unobserved",
            "--loglevel=WARNING",
            *(["with"] if "with" in flags else []),
            *named,
            *updates,
        ]
    unobserved = any(flag.startswith(UNRECORDED) for flag in flags)
    if not unobserved:
        require_writable(runs)
        experiment.observers.append(AtomicFileStorage(str(runs)))
    return [arguments[0], *flags, *named, *updates]


def _choose_own(experiment: Experiment, updates: Sequence[str]) -> None:
    """Put what follows from the data into the named configuration ``own``, and print it."""
    from experiments.running.own import own_configuration  # reads annotations, and most commands need not

    explicit, _ = get_config_updates([update for update in updates if "=" in update])
    values, lines = own_configuration(explicit)
    print("\n".join(lines), flush=True)
    description = experiment.named_configs.pop("own").__doc__
    experiment.add_named_config("own", values)
    experiment.named_configs["own"].__doc__ = description
