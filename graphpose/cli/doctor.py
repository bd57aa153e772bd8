"""What a machine has for graphpose: versions, devices, compiled parts, and what will be slow on it and why."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

from graphpose import __version__
from graphpose.fields import scatter

PACKAGE = Path(__file__).parents[1]

PACKAGES = (
    "torch", "torchvision", "timm", "torch-geometric", "torch-scatter", "numpy", "numba", "opencv-python-headless",
    "pycocotools", "faster-coco-eval", "sacred", "onnx",
)  # fmt: skip


@dataclasses.dataclass
class Findings:
    """What was found.

    Attributes:
        facts: name → value, in the order in which they are worth reading.
        slow: what will be slow, or is not as it looks, and what would help; one sentence each.
    """

    facts: dict[str, str]
    slow: list[str]

    def lines(self) -> list[str]:
        """For people, and for a report to us."""
        width = max(map(len, self.facts))
        found = [f"{name:{width}s}  {value}" for name, value in self.facts.items()]
        return [*found, *(f"! {reason}" for reason in self.slow or ["nothing here will be slower than it needs to be"])]


def examine() -> Findings:
    """Look at this machine and this Python; nothing is changed but that CUDA, where there is one, is initialised."""
    findings = Findings({}, [])
    facts = findings.facts
    facts["graphpose"] = f"{__version__} in {PACKAGE}"
    facts["Python"] = f"{platform.python_version()}, {platform.platform()}"
    for package in PACKAGES:
        facts[package] = _version(package)
    _examine_devices(findings)
    _examine_scatter(findings)
    _examine_threads(findings)
    _examine_compiler(findings)
    facts["GRAPHPOSE_DATA"] = os.environ.get("GRAPHPOSE_DATA") or "not set"
    if facts["faster-coco-eval"] == "not installed":
        findings.slow.append("evaluation has pycocotools only; pip install faster-coco-eval, then evaluator=fast")
    return findings


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _examine_devices(findings: Findings) -> None:
    built = torch.version.cuda
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    findings.facts["CUDA"] = f"{built or 'torch is built without it'}, {count} device(s)"
    if count == 0 and Path("/dev/nvidia0").exists():
        findings.slow.append(
            "there is an NVIDIA GPU that torch does not use: "
            + ("its driver is too old for this torch, or not loaded" if built else "install a torch built for CUDA")
        )
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        findings.facts[f"cuda:{index}"] = (
            f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
            f"{properties.total_memory / 2**30:.0f} GiB"
        )
        if properties.major < 8:
            findings.slow.append(
                f"cuda:{index} has neither bfloat16 nor TF32 units; precision=float16 is what is fast on it"
            )
    if count:
        findings.facts["cuDNN"] = str(torch.backends.cudnn.version())


def _examine_scatter(findings: Findings) -> None:
    if scatter.torch_scatter() is not None:
        version = scatter.cuda_version()
        findings.facts["torch-scatter"] += f", for CUDA {version}" if version > 0 else ", for the CPU only"
        return
    if findings.facts["torch-scatter"] == "not installed":
        return
    try:
        importlib.import_module("torch_scatter")
    except Exception as error:  # whatever its import raises is what has to be known
        findings.facts["torch-scatter"] += f", not usable: {str(error).splitlines()[0]}"
    findings.slow.append("torch-scatter does not fit this torch and is left out; make it anew, or uninstall it")


def _examine_threads(findings: Findings) -> None:
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    threads = torch.get_num_threads()
    set_to = os.environ.get("OMP_NUM_THREADS")
    findings.facts["cores"] = f"{cores} for this process, of {os.cpu_count()}"
    findings.facts["threads"] = f"{threads} of torch, OMP_NUM_THREADS {set_to or 'not set'}"
    if threads < cores and set_to:
        findings.slow.append(f"OMP_NUM_THREADS={set_to} leaves {cores - threads} of {cores} cores unused on a CPU")
    if threads > cores:
        findings.slow.append(f"{threads} threads share {cores} cores; set OMP_NUM_THREADS={cores}")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and cores < 4 * gpus:
        findings.slow.append(f"{cores} cores for {gpus} GPU(s): loading images will be what training waits for")


def _examine_compiler(findings: Findings) -> None:
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or PACKAGE / "fields" / "decoding" / "__pycache__")
    entries = len(list(folder.rglob("*.nbi"))) if folder.is_dir() else 0
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(parent, os.W_OK)
    findings.facts["numba cache"] = f"{folder}: {entries} functions{'' if writable else ', cannot be written'}"
    if not entries and not writable:
        findings.slow.append(
            "the decoder is compiled anew by every process, which takes half a minute; set NUMBA_CACHE_DIR to a folder "
            "that can be written"
        )
    elif not entries:
        findings.slow.append("the decoder is not compiled yet; the first image will take half a minute longer")
