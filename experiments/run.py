"""Train and evaluate one configuration, logged by Sacred.

    python experiments/run.py                                    # the demo: rendered scenes, small network, CPU
    python experiments/run.py with adjacency=none                # the PifPaf baseline on it
    python experiments/run.py with coco_local adjacency=dynamic  # photographs under $GRAPHPOSE_DATA
    python experiments/run.py print_config with coco             # every key, its value and what it does
    python experiments/run.py with resume=3                      # go on with runs/3 where its checkpoint is
    torchrun --nproc-per-node 2 experiments/run.py with coco     # on two GPUs (or CPUs, device=cpu)

Every run leaves a folder under runs/ with its configuration, figures per epoch (metrics.json), checkpoint.pt and the
one before it, best.pt, relations.npz (W_d after every epoch), evaluation.json (COCO's ten figures), results.json,
contact_sheet.png and loss_curve.png; the last line names it. SIGTERM and Ctrl-C write a checkpoint and end the run as
interrupted. With -F FOLDER that folder stands for runs/; data bases (-s, -m, -t) get the record as well, for a run is
resumed from its folder.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

if not __package__:  # a script: packages are found beside its folder, and its folder is none to look in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from sacred import SETTINGS
from sacred.run import Run
from sacred.utils import SacredError

from experiments.configs.explanations import EXPLANATIONS, PURPOSES
from experiments.configs.named import DEFAULTS, NAMED
from experiments.configs.settings import build_settings
from experiments.running.launch import sacred_arguments
from experiments.running.records import ExplainedConfig, LateExperiment, without_progress_bars
from experiments.running.resume import refuse_changes, stored_configuration
from graphpose.errors import GraphposeError, escape_output
from graphpose.training.stop import Interrupted, StopRequest

# "sys" lets tqdm see whether it writes to a terminal; its bars then do not fill the captured output
SETTINGS.CAPTURE_MODE = "sys"
# of every module and package, not only of those that this file imports itself
SETTINGS.DISCOVER_SOURCES, SETTINGS.DISCOVER_DEPENDENCIES = "sys", "pkg"

STOP = StopRequest()
ROOT = Path(__file__).resolve().parent.parent
experiment = LateExperiment("graphpose", base_dir=str(ROOT), save_git_info=False)  # the commit is in info.json
experiment.captured_out_filter = without_progress_bars
experiment.doc = f"""{__doc__}
Named configurations, each in experiments/configs/:

{chr(10).join(f"    {name:17}{purpose}" for name, purpose in PURPOSES.items())}
"""
experiment.configurations.append(ExplainedConfig(DEFAULTS | {"resume": ""}, EXPLANATIONS))
for name, values in NAMED.items():
    experiment.add_named_config(name, values)
    experiment.named_configs[name].__doc__ = PURPOSES[name]  # for print_named_configs


@experiment.config_hook
def refuse_wrong_configuration(config: dict[str, Any], command_name: str, logger: logging.Logger) -> dict[str, Any]:
    """Before a run folder is made: misspelt keys, wrong values and impossible combinations."""
    try:
        build_settings({key: value for key, value in config.items() if key != "resume"})
        if config["resume"]:
            refuse_changes(config, stored_configuration(Path(config["resume"])))
    except GraphposeError as error:
        raise SacredError(str(error), print_traceback=False, filter_traceback="always") from None
    return {}


@experiment.config_hook
def import_training(config: dict[str, Any], command_name: str, logger: logging.Logger) -> dict[str, Any]:
    """What trains is imported after the checks and before the run is made, so that its record lists these sources."""
    if command_name == experiment.default_command:
        importlib.import_module("experiments.running.training")
    return {}


@experiment.main
def main(_config: dict[str, Any], _run: Run, _seed: int) -> float | None:
    """Train, evaluate, write the artefacts; the result is the final AP."""
    from experiments.running.training import run_training

    return run_training(_config, _run, _seed, STOP)


def command_line(arguments: list[str] | None = None) -> None:
    """Run from the command line; the exit status is 1 after a failure and 128 + signal after an interruption."""
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 — for as long as the process lasts
    escape_output()
    try:
        with STOP:  # from before the first step until Sacred has recorded how the run ended
            experiment.run_commandline(sacred_arguments(experiment, list(sys.argv if arguments is None else arguments)))
    except GraphposeError as error:
        sys.exit(f"graphpose: {error}")
    except Interrupted as interrupted:
        print(f"graphpose: {interrupted}", file=sys.stderr)
        sys.exit(128 + interrupted.signal_number)


if __name__ == "__main__":
    command_line()
