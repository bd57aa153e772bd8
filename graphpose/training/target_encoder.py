"""Targets of a training step, encoded on the device."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from graphpose.data.batch import Batch
from graphpose.fields.encode import encode
from graphpose.fields.spec import FieldSpec


class TargetEncoder:
    """Copies batches to the device and encodes their targets there.

    Encoding has to ask the device how many cells are covered, and waits for the answer. On CUDA both are therefore done
    on a stream of their own: it waits for its own work alone, while the device is still busy with the step before. Its
    small kernels go before those of the step, or the host would wait for a place among them.

    Args:
        device: that trains.
        spec: of the fields.
        channels_last: memory format of the images.
    """

    def __init__(self, device: torch.device, spec: FieldSpec, channels_last: bool) -> None:
        self.device, self.spec = device, spec
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Images and targets on the device.

        Args:
            batch: B images with their keypoints, on the host; pinned memory is copied without waiting.

        Returns:
            Images (B, 3, H, W), PIF targets (B, K, 5, h, w) and PAF targets (B, M, 7, h, w), ready for use on the
            caller's stream.
        """
        with contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            batch = batch.to(self.device, non_blocking=True)
            images = batch.images.contiguous(memory_format=self.memory_format)
            targets = encode(
                batch.keypoints, batch.scales, self.spec, batch.size, batch.ignore, batch.known, batch.regions
            )
        ready = images, targets.pif, targets.paf
        if self.stream is not None:
            caller = torch.cuda.current_stream(self.device)
            caller.wait_stream(self.stream)
            for tensor in ready:
                tensor.record_stream(caller)  # its memory is not used again before the caller is done with it
        return ready
