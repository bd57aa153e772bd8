"""What only a GPU can settle, in one command of at most nine minutes.

    python experiments/benchmark.py gpu                       # writes gpu.json and gpu.md
    python experiments/benchmark.py gpu --device cpu --small  # a rehearsal

Steps come in the order of their worth. Each is a process of its own with its own time limit: one that fails or hangs is
noted, and the next one begins. Both files are written anew after every step, so that what is known is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
TESTS = (  # of bits and waits on a real device
    "tests/fields/test_encode.py", "tests/fields/test_decode.py", "tests/training/test_target_encoder.py",
    "tests/graphs/test_adjacency.py",
)  # fmt: skip
NETWORKS = {"baseline": ["adjacency=none"], "DGCN": ["adjacency=dynamic"], "pyramid": ["strides=[16, 8, 4]"]}
SETTINGS = ["demo", "cache=True", "workers=0", "freeze_batch_norm=True", "optimizer=sgd", "learning_rate=0.001"]

# The first rank waits in an operation that the second, which fails, never joins: it has to end all the same.
DYING = """
import torch
import torch.distributed as dist
from graphpose.distributed import ranks_of_this_run

with ranks_of_this_run() as ranks:
    numbers = torch.ones(1, device="cuda")
    dist.all_reduce(numbers)
    if ranks.rank == 1:
        raise SystemExit("rank 1 has failed")
    dist.all_reduce(numbers)
    torch.cuda.synchronize()
"""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much a step does.

    Attributes:
        device: name of the device.
        small: for a rehearsal.
    """

    device: str
    small: bool

    def words(self, size: int, batch: int, *more: str) -> list[str]:
        """Settings of a training on rendered scenes with the network of ``coco``, or with a tiny one."""
        size, batch = (64, 2) if self.small else (size, batch)
        network = ["backbone=test_resnet"] if self.small else ["backbone=resnet50", "stem_pool=False", "upsample=2"]
        scenes = 2 * batch if self.small else 4 * batch
        return [
            *SETTINGS, *network, f"image_size={size}", f"augment.long_edge={size}", f"batch_size={batch}",
            f"demo_train_scenes={scenes}", "demo_val_scenes=2", f"device={self.device}", *more,
        ]  # fmt: skip


Step = Callable[[Scale], dict[str, Any]]
STEPS: dict[str, tuple[float, Step]] = {}


def step(seconds: float) -> Callable[[Step], Step]:
    """Register a step with its time limit; the order is that of the file."""

    def register(function: Step) -> Step:
        STEPS[function.__name__] = seconds, function
        return function

    return register


@step(30)
def machine(scale: Scale) -> dict[str, Any]:
    """Versions, devices and torch-scatter's kind."""
    from graphpose.cli.doctor import examine

    findings = examine()
    return {**findings.facts, "slow": findings.slow}


@step(90)
def tests(scale: Scale) -> dict[str, Any]:
    """The tests that need a real device: encoder, decoder and graphs have the CPU's bits and do not wait."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, "-k", "cuda or device"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return {"status": done.returncode, "summary": done.stdout.strip().splitlines()[-1:]}


@step(100)
def demo(scale: Scale) -> dict[str, Any]:
    """An epoch of the demo, and one more by resuming it."""
    scenes = 4 if scale.small else 400
    few = ["demo_val_scenes=4", f"demo_train_scenes={scenes}", f"device={scale.device}", "contact_sheet_images=1"]
    few += ["backbone=test_resnet", "batch_size=2", "evaluation_batch_size=2"] if scale.small else []
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for settings in (["epochs=1", "evaluate_every=1", "warmup_epochs=0.1", *few], ["resume=1", "epochs=2"]):
            name = [] if settings[0].startswith("resume") else ["demo"]
            command = [sys.executable, str(ROOT / "experiments" / "run.py"), "-F", folder, "with", *name, *settings]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            lines += done.stdout.strip().splitlines()[-2:] if done.returncode == 0 else done.stderr[-600:].splitlines()
    return {"output": lines}


@step(100)
def losses(scale: Scale) -> dict[str, Any]:
    """The first steps of one batch on a CPU, and on the device in every precision; ends far apart are a fault."""
    steps = 3 if scale.small else 30
    kinds = {
        "IEEE": ["tf32=none"],
        "TF32 convolutions": ["tf32=convolutions"],
        "TF32": ["tf32=all"],
        "bfloat16": ["precision=bfloat16"],
        "float16": ["precision=float16"],
    }
    runs = {name: _losses(scale.words(193, 4, *words), steps) for name, words in kinds.items()}
    reference = _losses(Scale("cpu", scale.small).words(193, 4), steps)
    worst = {name: max(abs(a - b) / abs(b) for a, b in zip(run, reference, strict=True)) for name, run in runs.items()}
    return {"steps": steps, "first": reference[0], "last": {"CPU": reference[-1]} | {n: r[-1] for n, r in runs.items()},
            "largest relative difference": worst}  # fmt: skip


def _losses(words: list[str], steps: int) -> list[float]:
    from experiments.benchmarks.train import build
    from graphpose.training.backends import backends

    trainer, _ = build(words)
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    with backends(trainer.config, trainer.device):
        return [float(trainer.train_step(batch)["total"]) for _ in range(steps)]


@step(30)
def waits(scale: Scale) -> dict[str, Any]:
    """Where a step waits for the device outside of the encoder: nowhere."""
    from experiments.benchmarks.train import build

    trainer, _ = build(scale.words(193, 4))
    if trainer.device.type != "cuda":
        return {"skipped": "a CPU is never waited for"}
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    trainer.train_step(batch)
    encoder = trainer.target_encoder
    ready = encoder(batch)
    trainer.target_encoder = lambda _: ready  # type: ignore[assignment]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.train_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    return {"places": places}


@step(60)
def repeatable(scale: Scale) -> dict[str, Any]:
    """Whether two trainings of one seed have the same bits, with and without ``deterministic``."""
    from experiments.benchmarks.train import build

    found = {}
    for deterministic in (True, False):
        weights = []
        for _ in range(2):
            trainer, _settings = build(scale.words(193, 4, f"deterministic={deterministic}"))
            trainer.train_epoch()
            weights.append(torch.cat([p.detach().flatten().cpu() for p in trainer.network.parameters()]))
        found[f"deterministic={deterministic}"] = bool(torch.equal(*weights))
    return found


@step(200)
def training(scale: Scale) -> dict[str, Any]:
    """Images per second and peak memory of training, beside a loop over random tensors and the bound of the FLOPs."""
    from torch.utils.flop_counter import FlopCounterMode

    from experiments.benchmarks.train import RandomLoop, build
    from graphpose.training.backends import backends

    sizes = (401,) if scale.small else (401, 641)
    precisions = ("bfloat16", "float32")
    bounds = {precision: _matmul_tflops(scale, precision) for precision in precisions}
    rows = []
    for size, precision, (name, words) in itertools.product(sizes, precisions, NETWORKS.items()):
        trainer, settings = build(scale.words(size, 8, f"precision={precision}", *words))
        if trainer.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.device)
        trainer.train_epoch()
        epoch = trainer.train_epoch()
        memory = torch.cuda.max_memory_allocated(trainer.device) / 2**30 if trainer.device.type == "cuda" else 0.0
        with backends(trainer.config, trainer.device):
            loop = RandomLoop(trainer, settings)
            loop.images_per_second(2)
            speed = loop.images_per_second(trainer.steps_per_epoch)
            with FlopCounterMode(display=False) as counter:
                loop.step()
        flops = counter.get_total_flops() / len(loop.images)
        rows.append({
            "network": name, "size": len(loop.images[0, 0]), "precision": precision,
            "images/s": round(epoch["images_per_second"], 1), "random tensors": round(speed, 1),
            "bound": round(bounds[precision] * 1e12 / flops, 1), "GiB": round(memory, 2),
            "waiting": round(epoch["waiting_share"], 3),
        })  # fmt: skip
    return {"matmul TFLOP/s": bounds, "rows": rows}


def _matmul_tflops(scale: Scale, precision: str) -> float:
    """Of one square multiplication, in the kind of numbers that convolutions of that precision use."""
    side = 256 if scale.small else 8192
    a = torch.randn(side, side, device=torch.device(scale.device), dtype=getattr(torch, precision))
    torch.set_float32_matmul_precision("high" if precision == "float32" else "highest")
    try:
        _ = a @ a
        _wait(scale)
        started = time.perf_counter()
        for _ in range(5):
            _ = a @ a
        _wait(scale)
    finally:
        torch.set_float32_matmul_precision("highest")
    return round(5 * 2 * side**3 / (time.perf_counter() - started) / 1e12, 2)


def _wait(scale: Scale) -> None:
    if scale.device != "cpu":
        torch.cuda.synchronize(torch.device(scale.device))


@step(60)
def evaluation(scale: Scale) -> dict[str, Any]:
    """Images per second of network and decoder at batch 1 and 8, and their shares of the time."""
    from experiments.benchmarks.train import build
    from graphpose.data.loader import make_loader
    from graphpose.data.transforms import EvalTransform
    from graphpose.fields.decode import build_decoder
    from graphpose.inference.batches import for_inference, predict_batches

    trainer, settings = build(scale.words(641, 8))
    network = for_inference(trainer.network.eval())
    decoder = build_decoder(network.spec, statistics=network.pose_statistics)
    found: dict[str, Any] = {}
    dataset, size = trainer.loader.dataset.dataset, settings.data.image_size  # type: ignore[attr-defined]
    pin = trainer.device.type == "cuda"
    for batch_size in (1, 8):
        loader = make_loader(dataset, EvalTransform(size), batch_size, shuffle=False, pin_memory=pin)
        batches = list(loader) * (1 if scale.small else 4)
        for _ in range(2):  # the first one warms up
            seconds: dict[str, float] = {}
            started = time.perf_counter()
            images = sum(len(batch) for batch, _ in predict_batches(network, decoder, batches, seconds=seconds))
            elapsed = time.perf_counter() - started
        found[f"batch {batch_size}"] = {"images/s": round(images / elapsed, 1)} | {
            name: round(value / elapsed, 3) for name, value in seconds.items()
        }
    return found


@step(30)
def bad_loss(scale: Scale) -> dict[str, Any]:
    """A loss that is not finite in the third step ends the run with its image ids."""
    from experiments.benchmarks.train import build
    from graphpose.errors import GraphposeError

    trainer, _ = build(scale.words(193, 2, "demo_train_scenes=8"))
    encoder, count = trainer.target_encoder, itertools.count(1)

    def poisoned(batch: Any) -> Any:
        images, *targets = encoder(batch)
        return images * float("nan") if next(count) == 3 else images, *targets

    trainer.target_encoder = poisoned  # type: ignore[assignment]
    try:
        trainer.train_epoch()
    except GraphposeError as error:
        return {"message": str(error)}
    return {"message": "none"}


@step(60)
def profile(scale: Scale) -> dict[str, Any]:
    """What ten steps spend their time on."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    from experiments.benchmarks.train import build
    from graphpose.training.backends import backends

    trainer, _ = build(scale.words(401, 8, "precision=bfloat16"))
    trainer._set_modes()
    batch = next(iter(trainer.loader))
    cuda = trainer.device.type == "cuda"
    with backends(trainer.config, trainer.device):
        trainer.train_step(batch)
        with record(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as recorded:
            for _ in range(2 if scale.small else 10):
                trainer.train_step(batch)
            _wait(scale)
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(recorded.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events) or 1
    return {event.key[:80]: f"{100 * getattr(event, key) / total:.1f} %" for event in events[:15]}


@step(120)
def compiled(scale: Scale) -> dict[str, Any]:
    """What ``compile=True`` costs and brings."""
    from experiments.benchmarks.train import build

    found = {}
    for flag in (False, True):
        trainer, _ = build(scale.words(401, 8, "precision=bfloat16", f"compile={flag}"))
        started = time.perf_counter()
        trainer.train_epoch()
        first = time.perf_counter() - started
        found[f"compile={flag}"] = {"first epoch s": round(first, 1),
                                    "images/s": round(trainer.train_epoch()["images_per_second"], 1)}  # fmt: skip
    return found


@step(90)
def two_ranks(scale: Scale) -> dict[str, Any]:
    """Two GPUs: NCCL, synchronised batch norms in parts, and how a run ends of which a rank dies."""
    if torch.cuda.device_count() < 2 or scale.device == "cpu":
        return {"skipped": f"{torch.cuda.device_count()} GPU(s)"}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        dying = Path(folder) / "dying.py"
        dying.write_text(DYING)
        training = [str(ROOT / "experiments" / "run.py"), "-F", folder, "with", "demo", "epochs=1", "evaluate_every=1",
                    "demo_train_scenes=64", "demo_val_scenes=4", "warmup_epochs=0.1", "accumulate=2",
                    "sync_batch_norm=True"]  # fmt: skip
        for name, words in (("trains", training), ("a rank dies", [str(dying)])):
            command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *words]
            started = time.perf_counter()
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
            )
            found[name] = {"status": done.returncode, "seconds": round(time.perf_counter() - started, 1),
                           "last": (done.stdout + done.stderr).strip().splitlines()[-3:]}  # fmt: skip
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All steps, or those that are named; returns what is in the JSON file."""
    from graphpose.device import resolve_device
    from graphpose.errors import GraphposeError

    device = str(resolve_device(options.device))
    unknown = set(options.steps) - STEPS.keys()
    if unknown:
        raise GraphposeError(f"there is no step '{min(unknown)}'; choose from {', '.join(STEPS)}")
    report: dict[str, Any] = {"device": device, "small": options.small, "steps": {}}
    ends = time.monotonic() + options.seconds
    for name, (limit, _) in STEPS.items():
        if options.steps and name not in options.steps:
            continue
        left = ends - time.monotonic()
        if left > 5:
            limit = left if options.small else min(limit, left)  # a rehearsal may be on a slow machine
            report["steps"][name] = _run_step(name, device, options.small, limit)
        else:
            report["steps"][name] = {"error": "no time was left"}
        options.out.write_text(json.dumps(report, indent=1))
        options.out.with_suffix(".md").write_text(page(report))
    return report


def _run_step(name: str, device: str, small: bool, seconds: float) -> dict[str, Any]:
    """One step in a process of its own, which is ended with all that it started when its time is over."""
    command = [sys.executable, "-m", "experiments.benchmarks.gpu", name, device, *(["--small"] if small else [])]
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return {"seconds": round(seconds, 1), "error": f"not done after {seconds:.0f} s"}
    took = {"seconds": round(time.monotonic() - started, 1)}
    try:
        return took | {"result": json.loads(output.splitlines()[-1])}
    except (IndexError, ValueError):
        return took | {"error": errors.strip()[-1500:] or f"status {process.returncode}"}


def page(report: dict[str, Any]) -> str:
    """The report for people, in Markdown."""
    lines = [f"# graphpose on {report['device']}", ""]
    for name, outcome in report["steps"].items():
        lines += [f"## {name} ({outcome.get('seconds', 0)} s)", "", (STEPS[name][1].__doc__ or "").strip(), ""]
        if "error" in outcome:
            lines += ["**Not done.**", "", "```", outcome["error"], "```", ""]
            continue
        result = dict(outcome["result"])
        rows = result.pop("rows", [])
        lines += [f"- {key}: {value}" for key, value in result.items()]
        if rows:
            lines += ["", "| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
            lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """One step of this process; prints its result as one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("device")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    print(json.dumps(STEPS[options.step][1](Scale(options.device, options.small))))


if __name__ == "__main__":
    main()
